//! `transfer`: who may have the zones of `kubernetes` as a whole.

use std::net::{IpAddr, SocketAddr};

use super::Directive;
use crate::corefile::ServerBlock;
use crate::corefile::grammar::{Arguments, Form, Grammar};
use crate::corefile::parse::Statement;
use crate::corefile::problem::{Findings, Problem, shown};
use crate::resolve::config::TransferConfig;
use crate::wire::Name;

/// Port of a secondary that names none.
const PORT: u16 = 53;

pub(super) const TRANSFER: Directive = Directive::new(
    &GRAMMAR.line,
    || GRAMMAR.rows(),
    |block, statement, findings| {
        let draft = GRAMMAR.read(Draft::default(), statement, findings);
        match draft.finish(block, statement) {
            Ok(config) => block.transfer.push(config),
            Err(problem) => findings.problem(problem),
        }
    },
);

#[derive(Default)]
struct Draft {
    zones: Vec<Name>,
    to_anybody: bool,
    to: Vec<SocketAddr>,
    source: Option<IpAddr>,
}

const GRAMMAR: Grammar<Draft> = Grammar {
    line: Form {
        name: "transfer",
        arguments: "[ZONES…]",
        meaning: "Lets secondaries have the zones of `kubernetes` that are in ZONES (default: \
                  those of the block), over TCP: whole (AXFR) or what changed (IXFR).",
        repeats: true,
        read: |draft, arguments| {
            draft.zones = arguments.zones()?;
            Ok(())
        },
    },
    options: &[
        Form {
            name: "to",
            arguments: "ADDRESSES…",
            meaning: "Addresses that may ask, and that are told of changes (NOTIFY, port 53 unless \
                      given). `*` lets everybody ask and tells nobody.",
            repeats: true,
            read: read_to,
        },
        Form {
            name: "source",
            arguments: "ADDRESS",
            meaning: "The address that NOTIFY is sent from. Default: the host chooses.",
            repeats: false,
            read: |draft, arguments| {
                let word = arguments.word()?;
                let address = word.parse().map_err(|_| {
                    arguments.problem(word, format!("{} is not an address", shown(word)))
                })?;
                draft.source = Some(address);
                Ok(())
            },
        },
    ],
    not_yet: &[],
};

fn read_to(draft: &mut Draft, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    for word in arguments.words()? {
        if word == "*" {
            draft.to_anybody = true;
            continue;
        }
        let address = address(word).ok_or_else(|| {
            let text = format!(
                "{} is not the address of a secondary; write it like 192.0.2.1 or 192.0.2.1:5353",
                shown(word)
            );
            arguments.problem(word, text)
        })?;
        // As peers are: a client of a socket for both families is known by its IPv4 address.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if !draft.to.contains(&address) {
            draft.to.push(address);
        }
    }
    Ok(())
}

/// Reads `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:53`.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv6() || bare == text => Some(SocketAddr::new(ip, PORT)),
        _ => text.parse().ok().filter(|address: &SocketAddr| address.port() != 0),
    }
}

impl Draft {
    fn finish(self, block: &ServerBlock, statement: &Statement) -> Result<TransferConfig, Problem> {
        let Self { zones, to_anybody, to, source } = self;
        // What was written there may be wrong, which is told already.
        let names_somebody = statement.body.iter().flatten().any(|option| option.name() == "to");
        if !names_somebody {
            let text = "\"transfer\" names nobody; add \"to\" with the addresses of secondaries";
            return Err(Problem::new(&statement.at, "transfer", text));
        }
        let zones = if zones.is_empty() { block.zones() } else { zones };
        Ok(TransferConfig { zones, to_anybody, to, source })
    }
}

/// Checks each `transfer` of a block against its `kubernetes`, which may stand behind it.
pub(super) fn check(block: &ServerBlock, statements: &[Statement], findings: &mut Findings) {
    let named = |name: &str| statements.iter().find(|statement| statement.name() == name);
    let Some(statement) = named("transfer") else { return };
    let Some(kubernetes) = &block.kubernetes else {
        // A wrong one is told already.
        if named("kubernetes").is_none() {
            let text = "\"transfer\" needs \"kubernetes\" in the same server block, whose zones \
                        it is for";
            findings.problem(Problem::new(&statement.at, "transfer", text));
        }
        return;
    };
    let is_served = |zone: &&Name| {
        kubernetes.zones.iter().any(|served| served.as_ref().is_within(zone.as_ref()))
    };
    let externals = block.external.as_ref().map_or(&[][..], |external| &external.zones);
    let is_external =
        |zone: &&Name| externals.iter().any(|served| served.as_ref().is_within(zone.as_ref()));
    for config in &block.transfer {
        for zone in config.zones.iter().filter(|zone| !is_served(zone)) {
            let at = zone.to_string();
            if is_external(&zone) {
                // CoreDNS transfers it, so the file may come from there.
                let text = format!(
                    "zone \"{zone}\" is one of \"k8s_external\" and is not transferred; whoever \
                     asks for it gets NOTAUTH"
                );
                findings.warn(Problem::new(&statement.at, &at, text));
            } else {
                let text =
                    format!("\"transfer\" has zone \"{zone}\", which \"kubernetes\" has not");
                findings.problem(Problem::new(&statement.at, &at, text));
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::directives::testing::{check_problems, read};

    fn transfers(directives: &str) -> Vec<TransferConfig> {
        let (block, warnings) = read(&format!("{directives}\nkubernetes cluster.local"));
        assert_eq!(warnings, [""; 0], "{directives}");
        block.transfer
    }

    #[test]
    fn secondaries_are_addresses_with_and_without_port() {
        let text = "transfer {\n to 192.0.2.1 192.0.2.2:5353\n to 2001:db8::1 [2001:db8::2]:54\n}";
        let [config] = &transfers(text)[..] else { panic!("one directive") };
        let to: Vec<String> = config.to.iter().map(SocketAddr::to_string).collect();
        let expected = ["192.0.2.1:53", "192.0.2.2:5353", "[2001:db8::1]:53", "[2001:db8::2]:54"];
        assert_eq!(to, expected);
        assert!(!config.to_anybody && config.source.is_none());
        assert_eq!(config.zones, [Name::root()], "those of the block");
    }

    #[test]
    fn a_star_lets_everybody_ask_and_several_directives_add_up() {
        let text = "transfer cluster.local {\n to * 192.0.2.1\n source 192.0.2.9\n}\n\
                    transfer {\n to *\n}";
        let [first, second] = &transfers(text)[..] else { panic!("two directives") };
        assert!(first.to_anybody && second.to_anybody);
        assert_eq!((first.to.len(), second.to.len()), (1, 0));
        assert_eq!(first.source, "192.0.2.9".parse().ok());
        assert_eq!(first.zones, [Name::parse("cluster.local").unwrap()]);
    }

    #[test]
    fn a_mapped_address_is_the_address_that_it_maps() {
        let text = "transfer {\n to ::ffff:192.0.2.1 [::ffff:192.0.2.2]:54 192.0.2.1\n}";
        let [config] = &transfers(text)[..] else { panic!("one directive") };
        let to: Vec<String> = config.to.iter().map(SocketAddr::to_string).collect();
        assert_eq!(to, ["192.0.2.1:53", "192.0.2.2:54"]);
    }

    #[test]
    fn a_zone_of_k8s_external_is_accepted_and_told() {
        let text = "kubernetes a\nk8s_external example.org\ntransfer example.org a {\n to *\n}";
        let (block, warnings) = read(text);
        assert_eq!(block.transfer.len(), 1);
        let expected = "zone \"example.org.\" is one of \"k8s_external\" and is not transferred";
        assert!(matches!(&warnings[..], [one] if one.contains(expected)), "{warnings:?}");
    }

    #[test]
    fn what_cannot_be_is_told() {
        let nobody = "2 - \"transfer\" names nobody; add \"to\" with the addresses of secondaries";
        check_problems(&[
            ("transfer\nkubernetes a", nobody),
            ("transfer {\n source 192.0.2.1\n}\nkubernetes a", nobody),
            (
                "transfer {\n to\n}\nkubernetes a",
                "3 - \"to\" lacks an argument; write \"to ADDRESSES…\"",
            ),
            (
                "transfer {\n to example.org\n}\nkubernetes a",
                "3 - \"example.org\" is not the address of a secondary; write it like 192.0.2.1 or \
                 192.0.2.1:5353",
            ),
            ("transfer {\n to *\n source here\n}\nkubernetes a", "4 - \"here\" is not an address"),
            (
                "transfer {\n to *\n}",
                "2 - \"transfer\" needs \"kubernetes\" in the same server block, whose zones it \
                 is for",
            ),
            (
                "kubernetes a\ntransfer b {\n to *\n}",
                "3 - \"transfer\" has zone \"b.\", which \"kubernetes\" has not",
            ),
        ]);
    }
}
