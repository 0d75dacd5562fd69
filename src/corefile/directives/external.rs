//! `k8s_external`: Services by their addresses outside of the cluster.

use super::Directive;
use crate::cluster::config::{Fallthrough, TTL_DEFAULT_S, TTL_MAX_S};
use crate::corefile::ServerBlock;
use crate::corefile::grammar::{Arguments, Form, Grammar};
use crate::corefile::key::is_reverse;
use crate::corefile::parse::Statement;
use crate::corefile::problem::{Findings, Problem, shown};
use crate::resolve::config::ExternalConfig;
use crate::wire::Name;

pub(super) const EXTERNAL: Directive = Directive::new(
    &GRAMMAR.line,
    || GRAMMAR.rows(),
    |block, statement, findings| {
        let mut config = GRAMMAR.read(default(), statement, findings);
        if config.zones.is_empty() {
            config.zones = block.zones();
        }
        match check(&config) {
            Ok(()) => block.external = Some(config),
            Err(text) => {
                findings.problem(Problem::new(&statement.at, GRAMMAR.line.name, text));
            }
        }
    },
);

const GRAMMAR: Grammar<ExternalConfig> = Grammar {
    line: Form {
        name: "k8s_external",
        arguments: "[ZONES…]",
        meaning: "Answers in ZONES (default: those of the block) with the addresses that Services \
                  of `kubernetes` have outside of the cluster: `web.shop.example.org`, \
                  `_http._tcp.web.shop.example.org`, and PTR in reverse zones.",
        repeats: false,
        read: |external, arguments| {
            external.zones = arguments.zones()?;
            Ok(())
        },
    },
    options: &[
        Form {
            name: "apex",
            arguments: "LABEL",
            meaning: "This server is `ns1.LABEL` below the zone, in SOA and NS (default `dns`).",
            repeats: false,
            read: |external, arguments| {
                external.apex = read_apex(arguments)?;
                Ok(())
            },
        },
        Form {
            name: "ttl",
            arguments: "SECONDS",
            meaning: "TTL of all records, 0 to 3600 (default 5).",
            repeats: false,
            read: |external, arguments| {
                external.ttl_s = arguments.number(0..=TTL_MAX_S)?;
                Ok(())
            },
        },
        Form {
            name: "headless",
            arguments: "",
            meaning: "Headless Services without an address outside have those of their endpoints, \
                      and endpoints have names.",
            repeats: false,
            read: |external, _| {
                external.headless = true;
                Ok(())
            },
        },
        Form {
            name: "fallthrough",
            arguments: "[ZONES…]",
            meaning: "Leaves names that do not exist, in ZONES or at all, to what comes after.",
            repeats: false,
            read: |external, arguments| {
                external.fallthrough = Fallthrough::to(arguments.zones()?);
                Ok(())
            },
        },
    ],
    not_yet: &[],
};

/// A directive without options (as CoreDNS).
fn default() -> ExternalConfig {
    ExternalConfig {
        zones: Vec::new(),
        apex: (*b"\x03dns").into(),
        ttl_s: TTL_DEFAULT_S,
        headless: false,
        fallthrough: Fallthrough::Never,
    }
}

/// Reads one label. CoreDNS takes any text, and denies its own name server where it is no label.
fn read_apex(arguments: &mut Arguments<'_>) -> Result<Box<[u8]>, Problem> {
    let word = arguments.word()?;
    let name = Name::parse(word)
        .ok()
        .filter(|name| name.as_ref().labels().count() == 1 && !word.ends_with('.'));
    let Some(name) = name else {
        return Err(arguments.problem(word, format!("{} is not one label", shown(word))));
    };
    let label = name.octets().strip_suffix(b"\0").unwrap_or_default();
    Ok(label.into())
}

/// Checks the zones; without any the keys of the block are wrong, which is told already.
fn check(config: &ExternalConfig) -> Result<(), &'static str> {
    let is_reverse_only = config.zones.iter().all(|zone| is_reverse(zone.as_ref()));
    if is_reverse_only && !config.zones.is_empty() {
        return Err(
            "\"k8s_external\" has reverse zones only; add the zone that their names are in, \
                    such as example.org",
        );
    }
    Ok(())
}

/// Checks the directive against its block, and has `kubernetes` keep what it needs.
pub(in crate::corefile) fn settle(
    block: &mut ServerBlock,
    body: &[Statement],
    findings: &mut Findings,
) {
    let find = |name: &str| body.iter().find(|statement| statement.name() == name);
    let Some(statement) = find(GRAMMAR.line.name) else { return };
    if find("kubernetes").is_none() {
        let text = "\"k8s_external\" needs \"kubernetes\" in the same server block";
        findings.problem(Problem::new(&statement.at, GRAMMAR.line.name, text));
    }
    if let Some(kubernetes) = &mut block.kubernetes {
        kubernetes.scope.kept.externals = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::directives::testing::{check_problems, read};

    fn external(directive: &str) -> ExternalConfig {
        read(&format!("kubernetes cluster.local\n{directive}")).0.external.unwrap()
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn without_options_it_is_as_in_coredns() {
        let config = external("k8s_external example.org Example.NET");
        assert_eq!(config.zones, [name("example.org"), name("example.net")]);
        assert_eq!(config, ExternalConfig { zones: config.zones.clone(), ..default() });
        assert_eq!(&*config.apex, b"\x03dns");
        assert_eq!(external("k8s_external").zones, [Name::root()]);
    }

    #[test]
    fn every_option_is_read() {
        let options = "apex NS\n ttl 0\n headless\n fallthrough a.example.org";
        let config = external(&format!("k8s_external example.org {{\n {options}\n}}"));
        let expected = ExternalConfig {
            zones: vec![name("example.org")],
            apex: (*b"\x02ns").into(),
            ttl_s: 0,
            headless: true,
            fallthrough: Fallthrough::Zones(vec![name("a.example.org")]),
        };
        assert_eq!(config, expected);
        let config = external("k8s_external example.org {\n fallthrough\n}");
        assert_eq!(config.fallthrough, Fallthrough::Always);
    }

    #[test]
    fn a_network_stands_for_its_reverse_zones() {
        let config = external("k8s_external 192.0.2.0/24 example.org");
        assert_eq!(config.zones, [name("2.0.192.in-addr.arpa"), name("example.org")]);
        assert_eq!(*config.primary_zone(), name("example.org"));
    }

    #[test]
    fn kubernetes_keeps_what_it_needs_in_either_order() {
        let keeps = |directives| read(directives).0.kubernetes.unwrap().scope.kept.externals;
        assert!(!keeps("kubernetes cluster.local"));
        assert!(keeps("kubernetes cluster.local\nk8s_external example.org"));
        assert!(keeps("k8s_external example.org\nkubernetes cluster.local"));
    }

    #[test]
    fn what_cannot_be_is_told() {
        let many = "x".repeat(64);
        check_problems(&[
            (
                "k8s_external example.org",
                "2 - \"k8s_external\" needs \"kubernetes\" in the same server block",
            ),
            (
                "kubernetes cluster.local\nk8s_external 192.0.2.0/24",
                "3 - \"k8s_external\" has reverse zones only; add the zone that their names are \
                 in, such as example.org",
            ),
            (
                "kubernetes cluster.local\nk8s_external {\n ttl 3601\n}",
                "4 - \"3601\" is not a number from 0 to 3600",
            ),
            (
                "kubernetes cluster.local\nk8s_external {\n apex a.b\n}",
                "4 - \"a.b\" is not one label",
            ),
            (
                "kubernetes cluster.local\nk8s_external {\n apex dns.\n}",
                "4 - \"dns.\" is not one label",
            ),
            (
                &format!("kubernetes cluster.local\nk8s_external {{\n apex {many}\n}}"),
                &format!("4 - {} is not one label", shown(&many)),
            ),
            (
                "kubernetes cluster.local\nk8s_external {\n apex\n}",
                "4 - \"apex\" lacks an argument; write \"apex LABEL\"",
            ),
            (
                "kubernetes cluster.local\nk8s_external {\n headles\n}",
                "4 - unknown option \"headles\" of \"k8s_external\"; did you mean \"headless\"?",
            ),
            // The mistake in `kubernetes` is told once.
            (
                "kubernetes in-addr.arpa\nk8s_external example.org",
                "2 - \"kubernetes\" has reverse zones only; add the cluster domain, such as \
                 cluster.local",
            ),
        ]);
    }
}
