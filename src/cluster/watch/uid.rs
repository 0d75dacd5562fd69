//! Which cluster an API server is of: the UID of the Namespace `kube-system`, which nobody can
//! delete or make twice. It is asked for with `list`, because that is the right that we have.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::cluster::config::Scope;
use crate::cluster::connect::ApiServer;
use crate::cluster::feed::{Fault, Feed};
use crate::cluster::object::Kind;
use crate::cluster::watch::Timing;
use crate::cluster::watch::api::Api;
use crate::cluster::watch::trouble::Trouble;

/// The Namespace that every cluster has.
const NAMESPACE: &str = "kube-system";
/// Longest UID that is believed; they have 36 characters.
const UID_LEN_MAX: usize = 128;

/// What the API server said.
#[derive(PartialEq, Eq, Debug)]
pub(in crate::cluster) enum Told {
    Uid(String),
    /// It answers, but will not tell, in these words.
    Nothing(String),
    /// It answers, but cannot tell now.
    Busy(String),
    /// It does not answer.
    Away(String),
}

/// A page of one Namespace.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    items: Vec<Item>,
}

/// The Namespace, as far as we want to know it.
#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

/// Its name and its UID.
#[derive(Deserialize)]
struct Metadata {
    name: String,
    uid: String,
}

/// Asks an API server which cluster it is of, and waits so long for the head of the answer and for
/// each piece of it.
pub(in crate::cluster) async fn ask(
    server: &Arc<ApiServer>,
    feed: &Arc<Feed>,
    patience: Duration,
) -> Told {
    let scope = Scope { namespaces: vec![NAMESPACE.to_owned()], ..Scope::default() };
    let timing = Timing { answer: patience, ..Timing::default() };
    let api = Api::new(Kind::Namespace, &scope, server.clone(), feed.clone(), timing);
    match api.page(1, None, None).await {
        Ok(body) => read(&body),
        Err(why) => refused(&why, &api, feed).await,
    }
}

fn read(body: &[u8]) -> Told {
    let Ok(page) = serde_json::from_slice::<Page>(body) else {
        return Told::Nothing("its answer cannot be read".to_owned());
    };
    let found = page.items.into_iter().map(|item| item.metadata);
    let uid = found.filter(|it| it.name == NAMESPACE).map(|it| it.uid).next();
    match uid.filter(|uid| (1..=UID_LEN_MAX).contains(&uid.len())) {
        Some(uid) => Told::Uid(uid),
        None => Told::Nothing(format!("it shows no namespace {NAMESPACE}")),
    }
}

/// Counts a failure, and tells whether the server is there.
async fn refused(why: &Trouble, api: &Api, feed: &Feed) -> Told {
    why.fault().into_iter().for_each(|fault| feed.kind(Kind::Namespace).fail(fault));
    if matches!(why.fault(), Some(Fault::Unauthorized | Fault::Unreachable)) {
        api.renew().await;
    }
    told(why)
}

fn told(why: &Trouble) -> Told {
    match why {
        Trouble::Forbidden(_) | Trouble::Absent(_) | Trouble::Refused { .. } => {
            Told::Nothing(why.to_string())
        }
        Trouble::Throttled(_) | Trouble::Server { .. } | Trouble::Stalled(_) => {
            Told::Busy(why.to_string())
        }
        _ => Told::Away(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::cluster::config::ApiLimits;
    use crate::cluster::scripted_api::{Ask, Reply, Script, Step};

    #[test]
    fn a_server_that_answers_is_not_away() {
        let busy =
            [Trouble::Throttled(None), Trouble::Server { code: 503, message: String::new() }];
        assert!(busy.iter().all(|why| matches!(told(why), Told::Busy(_))));
        assert!(matches!(told(&Trouble::Unreachable(String::new())), Told::Away(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn p7_a_slow_answer_is_that_of_a_busy_server_and_is_there_for_who_waits() {
        let script = Arc::new(Script::default());
        let page = r#"{"items":[{"metadata":{"name":"kube-system","uid":"u-1"}}]}"#;
        for _ in 0..2 {
            let slow = Reply::lines([]).then(Step::Wait(Duration::from_secs(15)));
            script.on(Ask::Count, "namespaces", slow.then(Step::Send(page.to_owned())));
        }
        let client = kube::Client::new(script.router(), "default");
        let server = Arc::new(ApiServer::with_client(client, ApiLimits::default()));
        let feed = Arc::new(Feed::new(Instant::now(), &Scope::default()));
        let told = ask(&server, &feed, Duration::from_secs(10)).await;
        assert!(matches!(told, Told::Busy(_)), "{told:?}");
        let told = ask(&server, &feed, Duration::from_secs(20)).await;
        assert_eq!(told, Told::Uid("u-1".to_owned()));
    }

    #[test]
    fn only_the_uid_of_that_namespace_counts() {
        let page = |name: &str, uid: &str| {
            let item = format!(r#"{{"metadata":{{"name":"{name}","uid":"{uid}"}}}}"#);
            read(format!(r#"{{"kind":"NamespaceList","items":[{item}]}}"#).as_bytes())
        };
        assert_eq!(page("kube-system", "u-1"), Told::Uid("u-1".to_owned()));
        assert!(matches!(page("default", "u-1"), Told::Nothing(_)));
        assert!(matches!(page("kube-system", ""), Told::Nothing(_)));
        assert!(matches!(page("kube-system", &"u".repeat(200)), Told::Nothing(_)));
        assert!(matches!(read(b"{"), Told::Nothing(_)));
        assert!(matches!(read(b"{}"), Told::Nothing(_)));
    }
}
