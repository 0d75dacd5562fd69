//! `cache`: how long Answers are kept.

use std::time::Duration;

use super::Directive;
use crate::corefile::grammar::{Arguments, Form, Grammar};
use crate::corefile::problem::{Problem, shown};
use crate::corefile::value;
use crate::resolve::config::{
    CacheConfig, DENIAL_TTL_MAX_S, Keep, Prefetch, Refresh, SERVFAIL_MAX, STALE_DEFAULT, Stale,
};
use crate::wire::Name;

/// Longest TTL that can be asked for, in seconds (RFC 2181 §8).
const TTL_MAX_S: u32 = i32::MAX as u32;
/// Most Entries of one kind that can be asked for.
const CAPACITY_MAX: u64 = 1 << 24;
/// `serve_stale` without arguments (as CoreDNS).
const STALE_KEEP_DEFAULT: Duration = Duration::from_secs(3600);
/// Longest recheck of `serve_stale` (RFC 8767 §5, and CoreDNS's documentation).
const RECHECK_MAX: Duration = Duration::from_secs(300);
/// `prefetch` without a window (as CoreDNS).
const WINDOW_DEFAULT: Duration = Duration::from_secs(60);
/// `prefetch` without a percentage (as CoreDNS).
const PERCENTAGE_DEFAULT: u32 = 10;

pub(super) const CACHE: Directive = Directive::new(
    &GRAMMAR.line,
    || GRAMMAR.rows(),
    |block, statement, findings| {
        block.cache = Some(GRAMMAR.read(CacheConfig::default(), statement, findings));
    },
);

const GRAMMAR: Grammar<CacheConfig> = Grammar {
    line: Form {
        name: "cache",
        arguments: "[TTL] [ZONES…]",
        meaning: "Keeps Answers from other servers for TTL seconds at most (default 3600; 60 \
                  when negative, which only `denial` raises), for names in ZONES (default: those \
                  of the block). Names of the cluster are never cached, nor is anything without \
                  this directive.",
        repeats: false,
        read: read_line,
    },
    options: &[
        Form {
            name: "success",
            arguments: "CAPACITY [TTL] [MINTTL]",
            meaning: "Entries (default 9984), longest and shortest TTL (default 5) of positive \
                      Answers.",
            repeats: false,
            read: |cache, arguments| read_keep(&mut cache.success, arguments),
        },
        Form {
            name: "denial",
            arguments: "CAPACITY [TTL] [MINTTL]",
            meaning: "The same for negative Answers; TTL 3 hours at most.",
            repeats: false,
            read: |cache, arguments| {
                read_keep(&mut cache.denial, arguments)?;
                let ttl_max_s = cache.denial.ttl_max_s.min(DENIAL_TTL_MAX_S);
                limit_ttl(&mut cache.denial, ttl_max_s);
                Ok(())
            },
        },
        Form {
            name: "servfail",
            arguments: "DURATION",
            meaning: "Keeps a failure for 1s, and twice as long each time it comes back, up to \
                      DURATION (default 30s, at most 5m, 0 not at all).",
            repeats: false,
            read: read_servfail,
        },
        Form {
            name: "disable",
            arguments: "success|denial [ZONES…]",
            meaning: "Does not keep positive or negative Answers for names in ZONES (default: \
                      all).",
            repeats: true,
            read: read_disable,
        },
        Form {
            name: "keepttl",
            arguments: "",
            meaning: "Sends the TTL of the upstream instead of counting it down.",
            repeats: false,
            read: |cache, _| {
                cache.keep_ttl = true;
                Ok(())
            },
        },
        Form {
            name: "serve_stale",
            arguments: "[off|DURATION] [immediate|verify] [TIMEOUT] [TTL] [RECHECK]",
            meaning: "Serves positive Answers for DURATION (default 1h, 0 or `off` not at all) \
                      after they expired, with this TTL (default 30s), and asks again behind \
                      (`immediate`, default) or first (`verify`, which alone takes TIMEOUT, and \
                      waits so long). For RECHECK (default 30s) after that failed they are served \
                      at once. Without this option: `24h verify 1800ms 30s 30s`.",
            repeats: false,
            read: read_serve_stale,
        },
        Form {
            name: "prefetch",
            arguments: "AMOUNT [DURATION] [PERCENTAGE%]",
            meaning: "Asks again for what was asked AMOUNT times without a gap of DURATION \
                      (default 1m) when PERCENTAGE (default 10%) of its TTL is left.",
            repeats: false,
            read: read_prefetch,
        },
    ],
    not_yet: &["serve_stale_policy"],
};

fn read_line(cache: &mut CacheConfig, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    if arguments.peek().is_some_and(looks_like_ttl) {
        let ttl_s = arguments.number(1..=TTL_MAX_S)?;
        limit_ttl(&mut cache.success, ttl_s);
        // It says how long at most; that a denial may hide what exists by now is our own bound.
        let denial_ttl_max_s = cache.denial.ttl_max_s;
        limit_ttl(&mut cache.denial, ttl_s.min(denial_ttl_max_s));
    }
    cache.zones = arguments.zones()?;
    Ok(())
}

/// Whether the first word is meant as a TTL. CoreDNS takes `30s` for a zone, and caches nothing.
fn looks_like_ttl(word: &str) -> bool {
    word.parse::<i64>().is_ok() || value::duration(word).is_some()
}

fn read_keep(keep: &mut Keep, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    keep.capacity = arguments.number(1..=CAPACITY_MAX)?;
    if arguments.peek().is_some() {
        limit_ttl(keep, arguments.number(1..=TTL_MAX_S)?);
    }
    if arguments.peek().is_some() {
        keep.ttl_min_s = arguments.number(0..=TTL_MAX_S)?.min(keep.ttl_max_s);
    }
    Ok(())
}

/// Sets the longest TTL; as in CoreDNS it wins over the shortest.
fn limit_ttl(keep: &mut Keep, ttl_max_s: u32) {
    keep.ttl_max_s = ttl_max_s;
    keep.ttl_min_s = keep.ttl_min_s.min(ttl_max_s);
}

fn read_servfail(cache: &mut CacheConfig, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    let word = arguments.peek().unwrap_or_default();
    cache.servfail = arguments.duration()?;
    if cache.servfail > SERVFAIL_MAX {
        // RFC 9520 §3.2: a failure must not be kept for longer than 5 minutes.
        return Err(arguments.problem(word, format!("{} is longer than 5m", shown(word))));
    }
    Ok(())
}

fn read_disable(cache: &mut CacheConfig, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    let is_success = arguments.choice(&[("success", true), ("denial", false)])?;
    let mut zones = arguments.zones()?;
    if zones.is_empty() {
        zones.push(Name::root());
    }
    let disabled = if is_success { &mut cache.disable_success } else { &mut cache.disable_denial };
    disabled.extend(zones);
    Ok(())
}

fn read_serve_stale(cache: &mut CacheConfig, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    if arguments.peek() == Some("off") {
        arguments.next();
        cache.serve_stale = None;
        return Ok(());
    }
    let mut stale =
        Stale { keep: STALE_KEEP_DEFAULT, refresh: Refresh::Immediate, ..STALE_DEFAULT };
    if arguments.peek().is_some() {
        stale.keep = arguments.duration()?;
    }
    if arguments.peek().is_some() {
        let verify = Refresh::Verify(Duration::ZERO);
        stale.refresh =
            arguments.choice(&[("immediate", Refresh::Immediate), ("verify", verify)])?;
    }
    if let (Refresh::Verify(timeout), Some(_)) = (&mut stale.refresh, arguments.peek()) {
        *timeout = arguments.duration()?;
    }
    if arguments.peek().is_some() {
        stale.ttl_s = read_stale_ttl(arguments)?;
    }
    if let Some(word) = arguments.peek() {
        stale.recheck = arguments.duration()?;
        if stale.recheck > RECHECK_MAX {
            let text = format!("{} is longer than 5m", shown(word));
            return Err(arguments.problem(word, text));
        }
    }
    cache.serve_stale = (!stale.keep.is_zero()).then_some(stale);
    Ok(())
}

/// The TTL of what has expired: whole seconds, as in CoreDNS.
fn read_stale_ttl(arguments: &mut Arguments<'_>) -> Result<u32, Problem> {
    let word = arguments.peek().unwrap_or_default();
    let ttl = arguments.duration()?;
    let ttl_s = u32::try_from(ttl.as_secs()).ok().filter(|s| *s <= TTL_MAX_S);
    ttl_s.filter(|_| ttl.subsec_nanos() == 0).ok_or_else(|| {
        arguments.problem(word, format!("{} is not a TTL in whole seconds, like 30s", shown(word)))
    })
}

fn read_prefetch(cache: &mut CacheConfig, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    let amount = arguments.number(0..=u32::MAX)?;
    let mut prefetch = Prefetch { amount, window: WINDOW_DEFAULT, percentage: PERCENTAGE_DEFAULT };
    if arguments.peek().is_some() {
        prefetch.window = arguments.duration()?;
    }
    if let Some(word) = arguments.next() {
        let percent = word.strip_suffix('%').and_then(|number| number.parse().ok());
        prefetch.percentage = percent.filter(|n| (10..=90).contains(n)).ok_or_else(|| {
            arguments.problem(word, format!("{} is not a percentage from 10% to 90%", shown(word)))
        })?;
    }
    // As in CoreDNS, an amount of 0 turns it off.
    cache.prefetch = (amount > 0).then_some(prefetch);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::directives::testing::{check_problems, read};

    fn cache(directive: &str) -> CacheConfig {
        let (block, warnings) = read(directive);
        assert_eq!(warnings, [""; 0], "{directive}");
        block.cache.unwrap()
    }

    fn keep(capacity: u64, ttl_max_s: u32, ttl_min_s: u32) -> Keep {
        Keep { capacity, ttl_max_s, ttl_min_s }
    }

    fn names(texts: &[&str]) -> Vec<Name> {
        texts.iter().map(|text| Name::parse(text).unwrap()).collect()
    }

    #[test]
    fn ttl_and_zones_may_stand_on_the_line() {
        assert_eq!(cache("cache"), CacheConfig::default());
        assert_eq!(cache("cache 900").denial.ttl_max_s, 60, "only `denial` raises it");
        let with_ttl = cache("cache 30");
        assert_eq!((with_ttl.success, with_ttl.denial), (keep(9984, 30, 5), keep(9984, 30, 5)));
        assert_eq!(cache("cache 30 example.org").zones, names(&["example.org"]));
        let zones_only = cache("cache example.org 10.0.0.0/8");
        assert_eq!(zones_only.zones, names(&["example.org", "10.in-addr.arpa"]));
        assert_eq!(zones_only.success.ttl_max_s, 3600);
        assert_eq!(cache("cache 3").success, keep(9984, 3, 3));
    }

    #[test]
    fn options_are_read() {
        let all = cache(
            "cache {\n success 5000 60 10\n denial 1000 20\n servfail 0\n keepttl\n \
             disable success cluster.local\n disable denial a b\n disable denial\n}",
        );
        assert_eq!((all.success, all.denial), (keep(5000, 60, 10), keep(1000, 20, 5)));
        assert_eq!((all.servfail, all.keep_ttl), (Duration::ZERO, true));
        assert_eq!(all.disable_success, names(&["cluster.local"]));
        assert_eq!(all.disable_denial, names(&["a", "b", "."]));
        assert_eq!(cache("cache 900 {\n denial 9984 30\n}").success.ttl_max_s, 900);
        assert_eq!(cache("cache {\n denial 9984 3600\n}").denial.ttl_max_s, 3600);
        assert_eq!(cache("cache {\n denial 9984 86400\n}").denial, keep(9984, 10_800, 5));
    }

    #[test]
    fn serve_stale_has_many_forms() {
        let seconds = Duration::from_secs;
        for (option, keep_s, refresh) in [
            ("serve_stale", 3600, Refresh::Immediate),
            ("serve_stale 2h", 7200, Refresh::Immediate),
            ("serve_stale 3600s immediate", 3600, Refresh::Immediate),
            ("serve_stale 3600s verify", 3600, Refresh::Verify(Duration::ZERO)),
            ("serve_stale 1h verify 2s", 3600, Refresh::Verify(seconds(2))),
        ] {
            let stale = cache(&format!("cache {{\n {option}\n}}")).serve_stale.unwrap();
            let expected = Stale { keep: seconds(keep_s), refresh, ..STALE_DEFAULT };
            assert_eq!(stale, expected, "{option}");
        }
        for off in ["off", "0"] {
            assert_eq!(cache(&format!("cache {{\n serve_stale {off}\n}}")).serve_stale, None);
        }
        assert_eq!(cache("cache").serve_stale, Some(STALE_DEFAULT));
        let all = cache("cache {\n serve_stale 24h verify 1800ms 30s 30s\n}");
        assert_eq!(all.serve_stale, Some(STALE_DEFAULT));
        let at_once = cache("cache {\n serve_stale 1h immediate 5s 0s\n}").serve_stale.unwrap();
        assert_eq!((at_once.ttl_s, at_once.recheck), (5, Duration::ZERO));
    }

    #[test]
    fn prefetch_has_three_forms() {
        for (option, amount, window_s, percentage) in [
            ("prefetch 10", 10, 60, 10),
            ("prefetch 10 5m", 10, 300, 10),
            ("prefetch 10 5m 25%", 10, 300, 25),
        ] {
            let prefetch = cache(&format!("cache {{\n {option}\n}}")).prefetch.unwrap();
            let window = Duration::from_secs(window_s);
            assert_eq!(prefetch, Prefetch { amount, window, percentage }, "{option}");
        }
        assert_eq!(cache("cache {\n prefetch 0\n}").prefetch, None);
    }

    #[test]
    fn what_it_does_not_take_is_told() {
        check_problems(&[
            ("cache 0", "2 - \"0\" is not a number from 1 to 2147483647"),
            ("cache 30s", "2 - \"30s\" is not a number from 1 to 2147483647"),
            ("cache -5", "2 - \"-5\" is not a number from 1 to 2147483647"),
            ("cache 30 a..b", "2 - zone \"a..b\": empty label"),
            (
                "cache {\n success\n}",
                "3 - \"success\" lacks an argument; write \"success CAPACITY [TTL] [MINTTL]\"",
            ),
            ("cache {\n success 0\n}", "3 - \"0\" is not a number from 1 to 16777216"),
            ("cache {\n success 1 0\n}", "3 - \"0\" is not a number from 1 to 2147483647"),
            ("cache {\n denial 1 1 -1\n}", "3 - \"-1\" is not a number from 0 to 2147483647"),
            (
                "cache {\n denial 1 1 1 1\n}",
                "3 - \"denial\" does not take \"1\"; write \"denial CAPACITY [TTL] [MINTTL]\"",
            ),
            (
                "cache {\n servfail\n}",
                "3 - \"servfail\" lacks an argument; write \"servfail DURATION\"",
            ),
            ("cache {\n servfail 6m\n}", "3 - \"6m\" is longer than 5m"),
            ("cache {\n servfail 30\n}", "3 - \"30\" is not a duration; write it like 5s or 1m30s"),
            (
                "cache {\n disable\n}",
                "3 - \"disable\" lacks an argument; write \"disable success|denial [ZONES…]\"",
            ),
            (
                "cache {\n disable sucess\n}",
                "3 - \"disable\" does not take \"sucess\"; write \"disable success|denial \
                 [ZONES…]\"; did you mean \"success\"?",
            ),
            (
                "cache {\n keepttl yes\n}",
                "3 - \"keepttl\" does not take \"yes\"; write \"keepttl\"",
            ),
            (
                "cache {\n serve_stale 1h later\n}",
                "3 - \"serve_stale\" does not take \"later\"; write \"serve_stale [off|DURATION] \
                 [immediate|verify] [TIMEOUT] [TTL] [RECHECK]\"",
            ),
            (
                "cache {\n serve_stale 1h immediate 1500ms\n}",
                "3 - \"1500ms\" is not a TTL in whole seconds, like 30s",
            ),
            ("cache {\n serve_stale 1h verify 1s 30s 6m\n}", "3 - \"6m\" is longer than 5m"),
            (
                "cache {\n serve_stale_policy prefer_positive\n}",
                "3 - \"serve_stale_policy\" is a CoreDNS option of \"cache\" that Mainstay does \
                 not support yet",
            ),
            (
                "cache {\n prefetch\n}",
                "3 - \"prefetch\" lacks an argument; write \"prefetch AMOUNT [DURATION] \
                 [PERCENTAGE%]\"",
            ),
            ("cache {\n prefetch 1 1m 5%\n}", "3 - \"5%\" is not a percentage from 10% to 90%"),
            ("cache {\n prefetch 1 1m 50\n}", "3 - \"50\" is not a percentage from 10% to 90%"),
            (
                "cache {\n sucess 5\n}",
                "3 - unknown option \"sucess\" of \"cache\"; did you mean \"success\"?",
            ),
            ("cache {\n success 5 {\n }\n}", "3 - option \"success\" of \"cache\" takes no block"),
        ]);
    }

    #[test]
    fn an_option_that_is_given_twice_is_told() {
        let (block, warnings) = read("cache {\n servfail 1s\n servfail 2s\n}");
        assert_eq!(block.cache.unwrap().servfail, Duration::from_secs(2));
        assert_eq!(warnings, ["4 - option \"servfail\" is given twice; the last one counts"]);
    }
}
