//! Our profiles, asked as the real programs are.

use std::sync::Arc;

use mainstay::load::resolver::{Client, Failure, Found, Records, ResolvConf, Resolver};

use crate::cases::Case;

/// The profiles that have a name of their own. Node's is c-ares, used in another way.
const PROFILES: [Resolver; 6] = [
    Resolver::Glibc,
    Resolver::Musl,
    Resolver::Go,
    Resolver::Jvm,
    Resolver::Netty,
    Resolver::CAres,
];
/// Chance plays no part in the cases.
const SEED: u64 = 1;

/// Looks up all hosts of a case with one client; one line each, as the real programs print.
pub async fn run(profile: &str, case: &Case) -> Vec<String> {
    let conf = ResolvConf::parse(case.conf, case.name).expect("a case is well-formed");
    let client = client(profile, Arc::new(conf));
    let mut lines = Vec::new();
    for host in case.hosts {
        lines.push(line(&client.addresses(host).await));
    }
    lines
}

fn client(profile: &str, conf: Arc<ResolvConf>) -> Client {
    let resolver = PROFILES.into_iter().find(|it| it.name() == profile);
    resolver.map_or_else(
        || Client::node(Arc::clone(&conf), SEED),
        |resolver| Client::new(resolver, Arc::clone(&conf), SEED),
    )
}

fn line(found: &Found) -> String {
    match &found.result {
        Ok(Records::Addresses(addresses)) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("ok {}", addresses.join(" "))
        }
        Ok(Records::Names(_)) => "names, where addresses were wanted".to_owned(),
        Err(Failure::UnknownHost) => "unknown-host".to_owned(),
        Err(Failure::TryAgain) => "try-again".to_owned(),
        Err(Failure::NoSocket) => "no socket".to_owned(),
    }
}
