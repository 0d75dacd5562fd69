//! Reads a fault: `ACTION[:PARAMETER]@WHEN` or `…@FROM..UNTIL`.

use std::time::Duration;

use super::{Action, Fault};
use crate::cluster::config::Selector;
use crate::cluster::pods::{WORKLOADS, is_name};
use crate::load::Error;
use crate::load::arrivals::parse_time;

/// Longest delay: no resolver waits longer, and what is held up fills memory.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// Letters of one action that may be wrong for it to be suggested.
const SLIPS_MAX: usize = 3;

/// The actions, and an example of each for error texts.
const ACTIONS: &[(&str, &str)] = &[
    ("kill9", "kill9@10s"),
    ("stop", "stop@10s..20s"),
    ("term", "term@10s"),
    ("restart", "restart@10s"),
    ("blackhole-upstream", "blackhole-upstream@5s..15s"),
    ("delay-upstream", "delay-upstream:800ms@5s..15s"),
    ("loss-upstream", "loss-upstream:30%@5s..15s"),
    ("servfail-upstream", "servfail-upstream@5s..15s"),
    ("truncate-upstream", "truncate-upstream@5s..15s"),
    ("pps-upstream", "pps-upstream:1024@5s..15s"),
    ("api-down", "api-down@5s..15s"),
    ("delete-pod", "delete-pod:kube-system/k8s-app=kube-dns@60s"),
    ("rollout-restart", "rollout-restart:kube-system/deployment/coredns@60s"),
    ("command", "command:'SHELL COMMAND'@10s"),
];

impl Fault {
    /// Reads a fault.
    ///
    /// # Errors
    /// One line: what is wrong, and how it is written.
    pub fn parse(text: &str) -> Result<Self, Error> {
        read(text).map_err(|why| Error::Config(format!("--fault {text:?}: {why}")))
    }
}

/// Reads a fault; the error says what is wrong with it.
fn read(text: &str) -> Result<Fault, String> {
    // The last one: a command may hold others.
    let (what, when) = match text.rsplit_once('@') {
        Some((what, when)) => (what, Some(when)),
        None => (text, None),
    };
    let (word, parameter) = match what.split_once(':') {
        Some((word, parameter)) => (word, Some(parameter)),
        None => (what, None),
    };
    let (_, example) = known(word)?;
    let as_in = |why: String| format!("{why}; write it as in {example}");
    let action = action(word, parameter).map_err(as_in)?;
    let when = when.ok_or_else(|| as_in("no time".into()))?;
    let (at, until) = span(when).map_err(as_in)?;
    if until.is_some() && !action.lasts() && !matches!(action, Action::Command(_)) {
        return Err(as_in(format!("{word} has no end, so it takes one time")));
    }
    Ok(Fault { action, at, until, written: text.into() })
}

/// The action of this name, with its example.
fn known(word: &str) -> Result<&'static (&'static str, &'static str), String> {
    ACTIONS.iter().find(|(known, _)| *known == word).ok_or_else(|| {
        let names = || ACTIONS.iter().map(|(known, _)| *known);
        match nearest(word, names()) {
            Some(meant) => format!("no such fault {word:?}; did you mean {meant}?"),
            None => {
                let names: Vec<_> = names().collect();
                format!("no such fault {word:?}; there are {}", names.join(", "))
            }
        }
    })
}

/// Reads `WHEN` or `FROM..UNTIL`.
fn span(text: &str) -> Result<(Duration, Option<Duration>), String> {
    let Some((from, until)) = text.split_once("..") else { return Ok((time(text)?, None)) };
    let (from, until) = (time(from)?, time(until)?);
    if until <= from {
        return Err(format!("{text} ends before it begins"));
    }
    Ok((from, Some(until)))
}

/// Reads a time. How times are written is seen from the example of the fault.
fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).map_err(|why| why.split("; write").next().unwrap_or_default().to_owned())
}

/// What is to be done.
fn action(word: &str, parameter: Option<&str>) -> Result<Action, String> {
    let needed = || parameter.filter(|it| !it.is_empty()).ok_or("something is missing after `:`");
    let parsed = match word {
        "delay-upstream" => delay(needed()?)?,
        "loss-upstream" => Action::LossUpstream(share(needed()?)?),
        "pps-upstream" => Action::PpsUpstream(rate(needed()?)?),
        "delete-pod" => delete_pod(needed()?)?,
        "rollout-restart" => rollout_restart(needed()?)?,
        "command" => Action::Command(unquoted(needed()?).to_owned()),
        _ if parameter.is_some() => return Err(format!("{word} takes nothing after `:`")),
        "kill9" => Action::Kill9,
        "stop" => Action::Stop,
        "term" => Action::Term,
        "restart" => Action::Restart,
        "blackhole-upstream" => Action::BlackholeUpstream,
        "servfail-upstream" => Action::ServfailUpstream,
        "truncate-upstream" => Action::TruncateUpstream,
        _ => Action::ApiDown,
    };
    Ok(parsed)
}

fn delay(text: &str) -> Result<Action, String> {
    let delay = time(text)?;
    if delay > DELAY_MAX {
        return Err(format!("a delay of {text} is more than {} s", DELAY_MAX.as_secs()));
    }
    Ok(Action::DelayUpstream(delay))
}

/// Reads `30%`, or `0.3`.
fn share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.parse().map(|percent: f64| percent / 100.0),
        None => text.parse(),
    };
    let is_share = |share: &f64| (0.0..=1.0).contains(share);
    number.ok().filter(is_share).ok_or_else(|| format!("{text:?} is no part from 0% to 100%"))
}

fn rate(text: &str) -> Result<u32, String> {
    let rate = text.parse().ok().filter(|rate| *rate > 0);
    rate.ok_or_else(|| format!("{text:?} is no number of packets per second"))
}

/// Reads `NAMESPACE/SELECTOR`. Keys of labels have slashes too.
fn delete_pod(text: &str) -> Result<Action, String> {
    let (namespace, selector) = text
        .split_once('/')
        .filter(|(namespace, selector)| is_name(namespace) && !selector.is_empty())
        .ok_or_else(|| format!("{text:?} is no NAMESPACE/SELECTOR"))?;
    let selector = Selector::parse(selector).map_err(|why| format!("selector: {why}"))?;
    Ok(Action::DeletePod { namespace: namespace.into(), selector: selector.to_string() })
}

fn rollout_restart(text: &str) -> Result<Action, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let &[namespace, kind, name] = &parts[..] else {
        return Err(format!("{text:?} is no NAMESPACE/KIND/NAME"));
    };
    if !is_name(namespace) || !is_name(name) {
        return Err(format!("{text:?} is no NAMESPACE/KIND/NAME"));
    }
    let kind = kind.to_lowercase();
    if !WORKLOADS.contains(&kind.as_str()) {
        return Err(format!("kind {kind:?} is none of {}", WORKLOADS.join(", ")));
    }
    Ok(Action::RolloutRestart { namespace: namespace.into(), kind, name: name.into() })
}

/// A command without the quotes around it, which a shell or a file may have left.
fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    ['\'', '"']
        .into_iter()
        .find_map(|quote| inner(quote).filter(|inner| !inner.contains(quote)))
        .unwrap_or(text)
}

/// The nearest of the known words, if one is near.
fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let is_part = |known: &str| word.len() >= 4 && known.contains(word);
    known
        .map(|known| (if is_part(known) { 1 } else { slips(word, known) }, known))
        .filter(|(slips, known)| *slips <= SLIPS_MAX && *slips < known.len().min(word.len()))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, known)| known)
}

/// Letters to insert, delete or replace to get from one word to the other.
fn slips(word: &str, known: &str) -> usize {
    if word.len() > known.len() + SLIPS_MAX {
        return usize::MAX;
    }
    let mut last: Vec<usize> = (0..=known.len()).collect();
    for (i, letter) in word.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut last[0], i + 1);
        for (j, other) in known.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = last[j + 1];
            last[j + 1] = replaced.min(diagonal + 1).min(last[j] + 1);
        }
    }
    last[known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn parsed(text: &str) -> (Action, Duration, Option<Duration>) {
        let fault = Fault::parse(text).unwrap();
        assert_eq!(fault.to_string(), text);
        (fault.action, fault.at, fault.until)
    }

    #[test]
    fn every_fault_of_the_help_is_read() {
        use Action::*;
        let (at, until) = (seconds(5), Some(seconds(15)));
        for (text, action) in [
            ("stop@5s..15s", Stop),
            ("blackhole-upstream@5s..15s", BlackholeUpstream),
            ("delay-upstream:800ms@5s..15s", DelayUpstream(Duration::from_millis(800))),
            ("loss-upstream:30%@5s..15s", LossUpstream(0.3)),
            ("loss-upstream:0.3@5s..15s", LossUpstream(0.3)),
            ("servfail-upstream@5s..15s", ServfailUpstream),
            ("truncate-upstream@5s..15s", TruncateUpstream),
            ("pps-upstream:1024@5s..15s", PpsUpstream(1024)),
            ("api-down@5s..15s", ApiDown),
            ("command:'echo a@b: c'@5s..15s", Command("echo a@b: c".into())),
        ] {
            assert_eq!(parsed(text), (action, at, until), "{text}");
        }
        for (text, action) in [
            ("kill9@60s", Kill9),
            ("term@60s", Term),
            ("restart@60s", Restart),
            ("stop@60s", Stop),
            ("command:date@60s", Command("date".into())),
        ] {
            assert_eq!(parsed(text), (action, seconds(60), None), "{text}");
        }
    }

    #[test]
    fn objects_of_the_cluster_are_read_with_slashes_in_labels() {
        let (action, ..) = parsed("delete-pod:kube-system/app.kubernetes.io/name=dns@60s");
        let selector = "app.kubernetes.io/name=dns".to_owned();
        assert_eq!(action, Action::DeletePod { namespace: "kube-system".into(), selector });
        let (action, ..) = parsed("rollout-restart:kube-system/DaemonSet/dns@60s");
        let (namespace, kind) = ("kube-system".into(), "daemonset".into());
        assert_eq!(action, Action::RolloutRestart { namespace, kind, name: "dns".into() });
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_an_example() {
        for (text, why) in [
            ("kil9@10s", "no such fault \"kil9\"; did you mean kill9?"),
            ("delay@10s", "did you mean delay-upstream?"),
            ("blackhole@10s", "did you mean blackhole-upstream?"),
            ("banana@10s", "there are kill9, stop"),
            ("", "there are kill9, stop"),
            ("kill9", "no time; write it as in kill9@10s"),
            ("kill9@", "write it as in kill9@10s"),
            ("kill9@ten", "write it as in kill9@10s"),
            ("kill9@10s..20s", "kill9 has no end, so it takes one time"),
            ("delete-pod:a/b=c@1s..2s", "has no end"),
            ("stop@20s..10s", "20s..10s ends before it begins"),
            ("stop:x@20s", "stop takes nothing after `:`"),
            ("delay-upstream@5s..15s", "something is missing after `:`"),
            ("delay-upstream:120s@5s..15s", "more than 60 s"),
            ("loss-upstream:130%@5s", "\"130%\" is no part from 0% to 100%"),
            ("loss-upstream:NaN@5s", "is no part"),
            ("pps-upstream:0@5s", "is no number of packets per second"),
            ("delete-pod:k8s-app=dns@5s", "is no NAMESPACE/SELECTOR"),
            ("delete-pod:kube-system/a=b=c@5s", "selector: "),
            ("rollout-restart:a/b@5s", "is no NAMESPACE/KIND/NAME"),
            ("rollout-restart:a/deployment/b?c@5s", "is no NAMESPACE/KIND/NAME"),
            ("rollout-restart:a/pod/b@5s", "kind \"pod\" is none of deployment"),
            ("command:@5s", "something is missing after `:`"),
        ] {
            let error = Fault::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains('\n') && error.starts_with("--fault "), "{error}");
        }
    }
}
