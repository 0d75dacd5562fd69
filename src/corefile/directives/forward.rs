//! `forward`: who is asked for other names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Directive;
use crate::corefile::grammar::{Arguments, Form, Grammar};
use crate::corefile::key;
use crate::corefile::problem::{Problem, shown};
use crate::forward::config::{Config, Policy, TARGETS_MAX, TIME_MAX, Target};
use crate::wire::{Name, Rcode};

/// The port of an upstream that names none.
const PORT: u16 = 53;
/// Schemes of targets that CoreDNS has and Mainstay has not.
const SCHEMES_NOT_YET: [&str; 5] = ["tls", "https", "https3", "quic", "grpc"];
/// Most queries in flight that can be asked for.
const CONCURRENT_MAX: usize = 1 << 24;
/// Most packets per second that can be asked for: the clock has no finer ticks.
const PACKETS_MAX: u32 = 1_000_000;

pub(super) const FORWARD: Directive = Directive::new(
    &GRAMMAR.line,
    || GRAMMAR.rows(),
    |block, statement, findings| {
        let config = Config::new(Name::root(), Vec::new());
        block.forward.push(GRAMMAR.read(config, statement, findings));
    },
);

const GRAMMAR: Grammar<Config> = Grammar {
    line: Form {
        name: "forward",
        arguments: "FROM TO…",
        meaning: "Asks other servers for names in the zone FROM: up to 15 addresses (port 53 \
                  unless given), or files like `/etc/resolv.conf`. May be given several times.",
        repeats: true,
        read: read_line,
    },
    options: &[
        Form {
            name: "except",
            arguments: "ZONES…",
            meaning: "Not for names in these zones.",
            repeats: true,
            read: |forward, arguments| {
                arguments.require()?;
                forward.except.extend(arguments.zones()?);
                Ok(())
            },
        },
        Form {
            name: "force_tcp",
            arguments: "",
            meaning: "Asks over TCP always.",
            repeats: false,
            read: |forward, _| {
                forward.force_tcp = true;
                Ok(())
            },
        },
        Form {
            name: "prefer_udp",
            arguments: "",
            meaning: "Asks over UDP first even if the client came over TCP.",
            repeats: false,
            read: |forward, _| {
                forward.prefer_udp = true;
                Ok(())
            },
        },
        Form {
            name: "expire",
            arguments: "DURATION",
            meaning: "Closes connections that are idle so long. Default 10s.",
            repeats: false,
            read: |forward, arguments| {
                forward.expire = arguments.duration()?;
                Ok(())
            },
        },
        Form {
            name: "max_age",
            arguments: "DURATION",
            meaning: "Uses a connection no longer than this. Default 0: no such limit.",
            repeats: false,
            read: |forward, arguments| {
                forward.max_age = arguments.duration()?;
                Ok(())
            },
        },
        Form {
            name: "max_idle_conns",
            arguments: "NUMBER",
            meaning: "Keeps so many idle connections to each upstream, at most 16. Default 0: 16.",
            repeats: false,
            read: |forward, arguments| {
                forward.max_idle_conns = arguments.number(0..=CONCURRENT_MAX)?;
                Ok(())
            },
        },
        Form {
            name: "read_timeout",
            arguments: "DURATION",
            meaning: "Longest that one try waits (default 2s), for an upstream that is used to \
                      take longer than that. Most tries wait a few times what it is used to take.",
            repeats: false,
            read: read_time_out,
        },
        Form {
            name: "max_connect_attempts",
            arguments: "NUMBER",
            meaning: "Most tries for a query over all upstreams. Default 0: 8, and 3 for each \
                      upstream over each transport, beside those that it refused to take.",
            repeats: false,
            read: |forward, arguments| {
                forward.max_connect_attempts = arguments.number(0..=u32::MAX)?;
                Ok(())
            },
        },
        Form {
            name: "failover",
            arguments: "RCODES…",
            meaning: "Asks another upstream after these response codes too. SERVFAIL, REFUSED, \
                      FORMERR and NOTIMP always lead to another one.",
            repeats: true,
            read: read_failover,
        },
        Form {
            name: "failfast_all_unhealthy_upstreams",
            arguments: "",
            meaning: "Fails at once while all upstreams are down, instead of asking them.",
            repeats: false,
            read: |forward, _| {
                forward.fails_fast = true;
                Ok(())
            },
        },
        Form {
            name: "source_address",
            arguments: "ADDRESS",
            meaning: "Asks upstreams of its family from ADDRESS. Default: the host chooses.",
            repeats: false,
            read: |forward, arguments| {
                let word = arguments.word()?;
                let address = word.parse().map_err(|_| {
                    arguments.problem(word, format!("{} is not an address", shown(word)))
                })?;
                forward.source_address = Some(address);
                Ok(())
            },
        },
        Form {
            name: "hedge",
            arguments: "PERCENT",
            meaning: "Asks a second upstream before the first has failed, when it is later than \
                      it uses to be, for so many of a hundred queries (default 10, 0 for none). \
                      Not in CoreDNS.",
            repeats: false,
            read: |forward, arguments| {
                forward.hedge_percent = arguments.number(0..=100)?;
                Ok(())
            },
        },
        Form {
            name: "packets_per_second",
            arguments: "NUMBER",
            meaning: "Sends no more to each upstream; what exceeds it goes to another one, or \
                      waits up to 0.1s. Default: 900 for 169.254.169.253 and fd00:ec2::253 (give \
                      it for the VPC's own resolver too, EC2 drops more than 1024), else 0, no \
                      limit. Not in CoreDNS.",
            repeats: false,
            read: |forward, arguments| {
                forward.packets_per_second = Some(arguments.number(0..=PACKETS_MAX)?);
                Ok(())
            },
        },
        Form {
            name: "max_fails",
            arguments: "NUMBER",
            meaning: "An upstream is down after more failed probes in a row than this (default \
                      2), and asked after others from two time-outs in a row on, until a probe is \
                      answered; 0 does neither.",
            repeats: false,
            read: |forward, arguments| {
                forward.max_fails = arguments.number(0..=u32::MAX)?;
                Ok(())
            },
        },
        Form {
            name: "max_concurrent",
            arguments: "NUMBER",
            meaning: "Refuses queries beyond so many in flight. Default 0: no such limit.",
            repeats: false,
            read: |forward, arguments| {
                let limit = arguments.number(0..=CONCURRENT_MAX)?;
                forward.max_concurrent = (limit > 0).then_some(limit);
                Ok(())
            },
        },
        Form {
            name: "policy",
            arguments: "random|round_robin|sequential",
            meaning: "Which upstream is asked first. Default `random`.",
            repeats: false,
            read: |forward, arguments| {
                forward.policy = arguments.choice(&[
                    ("random", Policy::Random),
                    ("round_robin", Policy::RoundRobin),
                    ("sequential", Policy::Sequential),
                ])?;
                Ok(())
            },
        },
        Form {
            name: "health_check",
            arguments: "[DURATION] [no_rec] [domain FQDN]",
            meaning: "Probes an upstream that failed every DURATION (default 0.5s), without \
                      asking for recursion, for the name FQDN (default `.`).",
            repeats: false,
            read: read_health_check,
        },
    ],
    not_yet: &["doh_method", "next", "next_on_nodata", "resolver", "tls", "tls_servername"],
};

fn read_line(forward: &mut Config, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    forward.from = read_from(arguments)?;
    let words = arguments.words()?;
    if words.len() > TARGETS_MAX {
        let text = format!("more than {TARGETS_MAX} targets; split them over several servers");
        return Err(arguments.problem(words[TARGETS_MAX], text));
    }
    for word in words {
        forward.to.push(target(word).map_err(|text| arguments.problem(word, text))?);
    }
    Ok(())
}

/// Takes the zone, which has to be a single one.
fn read_from(arguments: &mut Arguments<'_>) -> Result<Name, Problem> {
    let word = arguments.word()?;
    let mut zones = key::zones(word).map_err(|text| arguments.problem(word, text))?;
    match (zones.pop(), zones.len()) {
        (Some(zone), 0) => Ok(zone),
        (_, more) => {
            // CoreDNS would take the first of them and forward the others nowhere.
            let text = format!(
                "{} is {} reverse zones; write one \"forward\" for each",
                shown(word),
                more + 1
            );
            Err(arguments.problem(word, text))
        }
    }
}

/// Reads one target.
fn target(word: &str) -> Result<Target, String> {
    let (scheme, rest) = word.split_once("://").map_or((None, word), |(s, rest)| (Some(s), rest));
    match scheme {
        Some(scheme) if SCHEMES_NOT_YET.contains(&scheme) => {
            return Err(format!("{scheme}:// upstreams are not supported yet: {}", shown(word)));
        }
        Some("dns") | None => {}
        Some(other) => return Err(format!("unknown scheme {}; use dns:// or none", shown(other))),
    }
    if let Some(address) = address(rest) {
        return Ok(Target::Address(address));
    }
    match (scheme, rest.contains('/')) {
        (None, true) => Ok(Target::ResolvConf(rest.into())),
        (Some(_), true) => Err(format!("a file takes no scheme; write {}", shown(rest))),
        (_, false) => Err(format!(
            "{} is neither an address nor the path of a file; upstreams by host name are not \
             supported yet",
            shown(rest)
        )),
    }
}

/// Reads `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:53`.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv6() || bare == text => Some(SocketAddr::new(ip, PORT)),
        _ => text.parse().ok().filter(|address: &SocketAddr| address.port() != 0),
    }
}

fn read_time_out(forward: &mut Config, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    forward.read_timeout = arguments.duration_from(Duration::from_millis(1))?;
    if forward.read_timeout > TIME_MAX {
        arguments.warn(format!("a query takes {TIME_MAX:?} at most, so \"read_timeout\" does too"));
    }
    Ok(())
}

/// Takes response codes by name.
fn read_failover(forward: &mut Config, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    for word in arguments.words()? {
        let text = match Rcode::parse(word) {
            Some(Rcode::NOERROR) => "is the answer, and leads to no other upstream",
            Some(rcode) => {
                forward.failover.push(rcode);
                continue;
            }
            None => "is not a response code; write one like SERVFAIL",
        };
        return Err(arguments.problem(word, format!("{} {text}", shown(word))));
    }
    Ok(())
}

fn read_health_check(forward: &mut Config, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    let probe = &mut forward.health_check;
    if arguments.peek().is_some_and(|word| word != "no_rec" && word != "domain") {
        probe.interval = arguments.duration_from(Duration::from_millis(1))?;
    }
    while let Some(word) = arguments.next() {
        match word {
            "no_rec" => probe.recursion = false,
            "domain" => probe.domain = read_domain(arguments)?,
            other => return Err(arguments.refuse(other)),
        }
    }
    Ok(())
}

/// Takes the name that probes ask for.
fn read_domain(arguments: &mut Arguments<'_>) -> Result<Name, Problem> {
    let word = arguments.word()?;
    Name::parse(word)
        .map_err(|error| arguments.problem(word, format!("domain {}: {error}", shown(word))))
}

#[cfg(test)]
mod tests;
