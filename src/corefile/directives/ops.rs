//! `errors`, `health`, `ready`, `prometheus` and `reload`: what operators watch and turn.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Directive;
use crate::corefile::grammar::{Arguments, Form, Grammar};
use crate::corefile::problem::{Problem, shown};
use crate::corefile::{Health, Monitor, Ready, Reload};
use crate::resolve::config::{Consolidate, ErrorsConfig};

/// Where `health` listens by default.
const HEALTH_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080);
/// Where `ready` listens by default.
const READY_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8181);
/// Where `prometheus` listens by default.
const PROMETHEUS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9153);
/// Time between two looks at the Corefile: default 30 s, at least 2 s (as CoreDNS).
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const INTERVAL_MIN: Duration = Duration::from_secs(2);
/// Random part of that time: default 15 s, at least 1 s, at most half the interval (as CoreDNS).
const JITTER_DEFAULT: Duration = Duration::from_secs(15);
const JITTER_MIN: Duration = Duration::from_secs(1);

pub(super) const ERRORS: Directive = Directive::new(
    &ERRORS_GRAMMAR.line,
    || ERRORS_GRAMMAR.rows(),
    |block, statement, findings| {
        block.errors = Some(ERRORS_GRAMMAR.read(ErrorsConfig::default(), statement, findings));
    },
);

pub(super) const HEALTH: Directive = Directive::new(
    &HEALTH_GRAMMAR.line,
    || HEALTH_GRAMMAR.rows(),
    |block, statement, findings| {
        let default = Health { listen: HEALTH_DEFAULT, lameduck: Duration::ZERO };
        block.health = Some(HEALTH_GRAMMAR.read(default, statement, findings));
    },
);

pub(super) const READY: Directive = Directive::new(
    &READY_GRAMMAR.line,
    || READY_GRAMMAR.rows(),
    |block, statement, findings| {
        let default = Ready { listen: READY_DEFAULT, monitor: Monitor::UntilReady };
        block.ready = Some(READY_GRAMMAR.read(default, statement, findings));
    },
);

pub(super) const PROMETHEUS: Directive = Directive::new(
    &PROMETHEUS_GRAMMAR.line,
    || PROMETHEUS_GRAMMAR.rows(),
    |block, statement, findings| {
        let listen = PROMETHEUS_GRAMMAR.read(PROMETHEUS_DEFAULT, statement, findings);
        block.prometheus = Some(listen);
    },
);

pub(super) const RELOAD: Directive = Directive::new(
    &RELOAD_GRAMMAR.line,
    || RELOAD_GRAMMAR.rows(),
    |block, statement, findings| {
        let default = Reload { interval: INTERVAL_DEFAULT, jitter: JITTER_DEFAULT };
        block.reload = Some(RELOAD_GRAMMAR.read(default, statement, findings));
    },
);

const ERRORS_GRAMMAR: Grammar<ErrorsConfig> = Grammar {
    line: Form {
        name: "errors",
        arguments: "[stdout]",
        meaning: "Logs every query that failed.",
        repeats: false,
        read: |_, arguments| match arguments.peek() {
            Some(_) => arguments.choice(&[("stdout", ())]),
            None => Ok(()),
        },
    },
    options: &[
        Form {
            name: "consolidate",
            arguments: "DURATION REGEX [LEVEL] [show_first]",
            meaning: "Counts the errors that match and tells them once per DURATION, at LEVEL \
                      `error` (default), `warning`, `info` or `debug`; with `show_first` the \
                      first one at once too.",
            repeats: true,
            read: read_consolidate,
        },
        Form {
            name: "stacktrace",
            arguments: "",
            meaning: "Accepted: where a panic came from is logged always.",
            repeats: false,
            read: |_, _| Ok(()),
        },
    ],
    not_yet: &[],
};

const HEALTH_GRAMMAR: Grammar<Health> = Grammar {
    line: Form {
        name: "health",
        arguments: "[ADDRESS]",
        meaning: "Answers `/health` at ADDRESS, by default `:8080`, as long as the process lives.",
        repeats: false,
        read: |health, arguments| {
            health.listen = arguments.listen(HEALTH_DEFAULT)?;
            Ok(())
        },
    },
    options: &[Form {
        name: "lameduck",
        arguments: "DURATION",
        meaning: "Keeps answering for at least DURATION after it is told to stop, and until nobody \
            has asked for 5 s (20 s at most). Default 0.",
        repeats: false,
        read: |health, arguments| {
            health.lameduck = arguments.duration()?;
            Ok(())
        },
    }],
    not_yet: &[],
};

const READY_GRAMMAR: Grammar<Ready> = Grammar {
    line: Form {
        name: "ready",
        arguments: "[ADDRESS]",
        meaning: "Answers `/ready` at ADDRESS, by default `:8181`: 200 when queries can be \
                  answered, else 503 and who is not ready.",
        repeats: false,
        read: |ready, arguments| {
            ready.listen = arguments.listen(READY_DEFAULT)?;
            Ok(())
        },
    },
    options: &[Form {
        name: "monitor",
        arguments: "until-ready|continuously",
        meaning: "Whether what was ready once stays so (default) or is asked each time.",
        repeats: false,
        read: |ready, arguments| {
            ready.monitor = arguments.choice(&[
                ("until-ready", Monitor::UntilReady),
                ("continuously", Monitor::Continuously),
            ])?;
            Ok(())
        },
    }],
    not_yet: &[],
};

const PROMETHEUS_GRAMMAR: Grammar<SocketAddr> = Grammar {
    line: Form {
        name: "prometheus",
        arguments: "[ADDRESS]",
        meaning: "Answers `/metrics` at ADDRESS, by default `localhost:9153`.",
        repeats: false,
        read: |listen, arguments| {
            *listen = arguments.listen(PROMETHEUS_DEFAULT)?;
            Ok(())
        },
    },
    options: &[],
    not_yet: &["runtime_metrics", "tls"],
};

const RELOAD_GRAMMAR: Grammar<Reload> = Grammar {
    line: Form {
        name: "reload",
        arguments: "[INTERVAL] [JITTER]",
        meaning: "Looks at the Corefile and what it imports every INTERVAL (default 30s, at \
                  least 2s) plus up to JITTER (default 15s, at least 1s, at most half of INTERVAL) and takes over changes.",
        repeats: false,
        read: read_reload,
    },
    options: &[],
    not_yet: &[],
};

fn read_consolidate(
    errors: &mut ErrorsConfig,
    arguments: &mut Arguments<'_>,
) -> Result<(), Problem> {
    let period = arguments.duration_from(Duration::from_nanos(1))?;
    let word = arguments.word()?;
    let pattern = regex::Regex::new(word).map_err(|_| {
        arguments.problem(word, format!("{} is not a regular expression", shown(word)))
    })?;
    let mut consolidate =
        Consolidate { period, pattern, level: tracing::Level::ERROR, show_first: false };
    if arguments.peek().is_some_and(|word| word != "show_first") {
        consolidate.level = arguments.choice(&[
            ("warning", tracing::Level::WARN),
            ("error", tracing::Level::ERROR),
            ("info", tracing::Level::INFO),
            ("debug", tracing::Level::DEBUG),
        ])?;
    }
    if arguments.peek() == Some("show_first") {
        arguments.next();
        consolidate.show_first = true;
    }
    errors.consolidate.push(consolidate);
    Ok(())
}

fn read_reload(reload: &mut Reload, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    if arguments.peek().is_some() {
        reload.interval = arguments.duration_from(INTERVAL_MIN)?;
    }
    if arguments.peek().is_some() {
        reload.jitter = arguments.duration_from(JITTER_MIN)?;
    }
    reload.jitter = reload.jitter.min(reload.interval / 2);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::directives::testing::{check_problems, read};

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn defaults_are_those_of_core_dns() {
        let (block, warnings) = read("errors\nhealth\nready\nprometheus\nreload");
        assert!(block.errors.unwrap().consolidate.is_empty());
        assert_eq!(
            block.health.unwrap(),
            Health { listen: at("[::]:8080"), lameduck: Duration::ZERO }
        );
        let ready = Ready { listen: at("[::]:8181"), monitor: Monitor::UntilReady };
        assert_eq!(block.ready.unwrap(), ready);
        assert_eq!(block.prometheus.unwrap(), at("127.0.0.1:9153"));
        let seconds = Duration::from_secs;
        assert_eq!(block.reload.unwrap(), Reload { interval: seconds(30), jitter: seconds(15) });
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn arguments_and_options_are_read() {
        let (block, warnings) = read(
            "errors stdout {\n stacktrace\n \
             consolidate 5m \".* i/o timeout$\" warning show_first\n \
             consolidate 1s x show_first\n consolidate 1s y debug\n}\n\
             health 169.254.20.10:8080 {\n lameduck 5s\n}\n\
             ready :1 {\n monitor continuously\n}\nprometheus :9153\nreload 4s 3s",
        );
        let rules = block.errors.unwrap().consolidate;
        let levels: Vec<_> = rules.iter().map(|rule| (rule.level, rule.show_first)).collect();
        use tracing::Level;
        assert_eq!(levels, [(Level::WARN, true), (Level::ERROR, true), (Level::DEBUG, false)]);
        assert!(rules[0].pattern.is_match("read udp: i/o timeout"));
        assert_eq!(block.health.unwrap().listen, at("169.254.20.10:8080"));
        assert_eq!(block.health.unwrap().lameduck, Duration::from_secs(5));
        let ready = Ready { listen: at("[::]:1"), monitor: Monitor::Continuously };
        assert_eq!(block.ready.unwrap(), ready);
        assert_eq!(block.prometheus.unwrap(), at("[::]:9153"));
        // As in CoreDNS, the jitter is at most half the interval.
        assert_eq!(block.reload.unwrap().jitter, Duration::from_secs(2));
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn what_they_do_not_take_is_told() {
        const NO_DURATION: &str = "is not a duration; write it like 5s or 1m30s";
        const NO_ADDRESS: &str =
            "is not an address with a port; write it like :8080 or 127.0.0.1:8080";
        const CONSOLIDATE: &str = "\"consolidate DURATION REGEX [LEVEL] [show_first]\"";
        check_problems(&[
            ("errors stderr", "2 - \"errors\" does not take \"stderr\"; write \"errors [stdout]\""),
            (
                "errors {\n consolidate\n}",
                &format!("3 - \"consolidate\" lacks an argument; write {CONSOLIDATE}"),
            ),
            (
                "errors {\n consolidate 5s\n}",
                &format!("3 - \"consolidate\" lacks an argument; write {CONSOLIDATE}"),
            ),
            ("errors {\n consolidate 5 x\n}", &format!("3 - \"5\" {NO_DURATION}")),
            ("errors {\n consolidate 0 x\n}", "3 - \"0\" is shorter than 1ns"),
            ("errors {\n consolidate 5s (\n}", "3 - \"(\" is not a regular expression"),
            (
                "errors {\n consolidate 5s x warn\n}",
                &format!("3 - \"consolidate\" does not take \"warn\"; write {CONSOLIDATE}"),
            ),
            (
                "errors {\n consolidate 5s x info show_first more\n}",
                &format!("3 - \"consolidate\" does not take \"more\"; write {CONSOLIDATE}"),
            ),
            (
                "errors {\n stacktrace on\n}",
                "3 - \"stacktrace\" does not take \"on\"; write \"stacktrace\"",
            ),
            ("health 8080", &format!("2 - \"8080\" {NO_ADDRESS}")),
            ("health :1 :2", "2 - \"health\" does not take \":2\"; write \"health [ADDRESS]\""),
            ("health {\n lameduck 5\n}", &format!("3 - \"5\" {NO_DURATION}")),
            (
                "health {\n lameduck\n}",
                "3 - \"lameduck\" lacks an argument; write \"lameduck DURATION\"",
            ),
            (
                "health {\n lame_duck 5s\n}",
                "3 - unknown option \"lame_duck\" of \"health\"; did you mean \"lameduck\"?",
            ),
            ("ready dns:53", &format!("2 - \"dns:53\" {NO_ADDRESS}")),
            (
                "ready {\n monitor continously\n}",
                "3 - \"monitor\" does not take \"continously\"; write \"monitor \
                 until-ready|continuously\"; did you mean \"continuously\"?",
            ),
            ("prometheus 9153", &format!("2 - \"9153\" {NO_ADDRESS}")),
            (
                "prometheus {\n runtime_metrics\n}",
                "3 - \"runtime_metrics\" is a CoreDNS option of \"prometheus\" that Mainstay does \
                 not support yet",
            ),
            ("reload 1s", "2 - \"1s\" is shorter than 2s"),
            ("reload 10s 500ms", "2 - \"500ms\" is shorter than 1s"),
            ("reload off", &format!("2 - \"off\" {NO_DURATION}")),
            (
                "reload 10s 5s 1s",
                "2 - \"reload\" does not take \"1s\"; write \"reload [INTERVAL] [JITTER]\"",
            ),
        ]);
    }
}
