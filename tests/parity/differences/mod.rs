//! Where Mainstay answers otherwise than CoreDNS, on purpose: one rule for each row of
//! differences.md. A rule knows both answers exactly, so that it hides nothing else.

mod aliases;
mod denials;
mod records;
mod sizes;
mod witness;

use std::collections::BTreeSet;

pub use sizes::Cut;
pub use witness::Witness;

use crate::cluster::Facts;
use crate::names::ZONES;
use crate::questions::{Question, text};
use crate::reply::{AA, Edns, NXDOMAIN, RA, Reply};

/// The rows.
const TABLE: &str = include_str!("../differences.md");

const A: u16 = 1;
const CNAME: u16 = 5;
const NS: u16 = 2;
const SOA: u16 = 6;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const ANY: u16 = 255;

/// Two replies without OPT that differ.
pub struct Difference<'d> {
    pub question: &'d Question,
    pub theirs: &'d Reply,
    pub ours: &'d Reply,
    /// What is in the cluster.
    pub facts: &'d Facts,
}

/// Rules about the addresses of the host, which may have none but those of loopback.
const OF_SOME_MACHINES: [&str; 2] =
    ["link-local-addresses-are-left-out", "ns-of-the-apex-in-capitals"];

/// Rules about letter case: both replies in lower case, if the rule is for them.
type Spelling = (&'static str, fn(&Difference<'_>) -> Option<(Reply, Reply)>);

const SPELLINGS: [Spelling; 2] = [
    ("names-are-spelled-as-asked", aliases::in_lower_case),
    ("cluster-id-is-lower-case", records::in_lower_case),
];

type Rule = (&'static str, fn(&Difference<'_>) -> bool);

/// What explains these OPT records, if all of it is explained.
pub fn of_edns(question: &Question, theirs: &Edns, ours: &Edns) -> Option<Vec<&'static str>> {
    let is_equal = |a: bool, id: &str, ids: &[&str]| a || ids.contains(&id);
    let rules = sizes::OF_EDNS.iter().filter(|(_, rule)| rule(question, theirs, ours));
    let ids: Vec<&str> = rules.map(|(id, _)| *id).collect();
    let [size, error] = sizes::OF_EDNS.map(|(id, _)| id);
    let is_explained = theirs.version == ours.version
        && theirs.flags == ours.flags
        && is_equal(theirs.payload_bytes == ours.payload_bytes, size, &ids)
        && is_equal(theirs.options == ours.options, error, &ids);
    is_explained.then_some(ids)
}

/// All rules for messages.
fn rules() -> impl Iterator<Item = &'static Rule> {
    denials::RULES.iter().chain(&aliases::RULES).chain(&records::RULES)
}

impl Difference<'_> {
    /// What explains it, if anything does.
    pub fn explain(&self) -> Option<Vec<&'static str>> {
        let Some(theirs) = denials::of_short_denials(self) else { return self.explain_rest() };
        let rest = Difference { theirs: &theirs, ..*self };
        let mut ids = vec![denials::SHORT];
        if theirs != *self.ours {
            ids.extend(rest.explain_rest()?);
        }
        Some(ids)
    }

    /// The same where denials live for the same time.
    fn explain_rest(&self) -> Option<Vec<&'static str>> {
        if let Some((id, _)) = rules().find(|(_, rule)| rule(self)) {
            return Some(vec![id]);
        }
        // Another spelling may come on top of another difference.
        SPELLINGS.iter().find_map(|(id, in_lower_case)| {
            let (theirs, ours) = in_lower_case(self)?;
            if theirs == ours {
                return Some(vec![*id]);
            }
            let lower = Difference { theirs: &theirs, ours: &ours, ..*self };
            rules().find(|(_, rule)| rule(&lower)).map(|(rule, _)| vec![*id, *rule])
        })
    }

    /// The labels before the zone, in lower case.
    fn prefix(&self) -> Option<String> {
        let name = self.question.name_text();
        let prefix = |zone: &str| {
            let prefix = name.strip_suffix(zone)?;
            Some(prefix.trim_end_matches('.').to_owned())
        };
        let known = ZONES.iter().find_map(|zone| prefix(&format!("{zone}.")));
        // A reverse zone is known by its SOA.
        known.or_else(|| {
            let mut soa = self.theirs.authority.iter().chain(&self.ours.authority);
            let soa = soa.find(|record| record.rtype == SOA && name.ends_with(".arpa."))?;
            prefix(&text(&soa.owner).to_lowercase())
        })
    }

    /// Whether the name is spelled with capital letters.
    fn has_capitals(&self) -> bool {
        self.question.name != self.question.name.to_ascii_lowercase()
    }

    /// Whether the name is that of a Service (or of all ports of it) that is an alias.
    fn is_of_alias(&self) -> bool {
        let Some(prefix) = self.prefix() else { return false };
        let Some(service) = prefix.strip_suffix(".svc") else { return false };
        self.facts.aliases.contains(service.strip_prefix("_._.").unwrap_or(service))
    }

    fn asks_for(&self, types: &[u16]) -> bool {
        types.contains(&self.question.rtype)
    }

    /// Whether a reply has no records but one SOA of a zone that holds the name.
    fn is_denial(&self, reply: &Reply, rcode: u16) -> bool {
        let is_alone = reply.answer.is_empty() && reply.additional.is_empty();
        let [soa] = &reply.authority[..] else { return false };
        let holds = self.question.name.ends_with(&soa.owner);
        reply.rcode == rcode && is_alone && soa.rtype == SOA && holds
    }

    /// A denial by the server itself.
    fn is_own_denial(&self, reply: &Reply, rcode: u16) -> bool {
        reply.has(AA) && !reply.has(RA) && self.is_denial(reply, rcode)
    }

    /// NXDOMAIN by the server itself, or by the upstream where the directive says `fallthrough`.
    fn is_nxdomain(&self, reply: &Reply) -> bool {
        let is_outside = !reply.has(AA) && reply.has(RA) && self.is_denial(reply, NXDOMAIN);
        is_outside || self.is_own_denial(reply, NXDOMAIN)
    }
}

/// Fails unless each rule has its row, each row its rule, and (where all variants ran) each has
/// explained something.
pub fn check_table(reasons: &BTreeSet<&str>, are_all: bool) {
    let rows: BTreeSet<&str> = TABLE.lines().filter_map(row).collect();
    let mut ids: BTreeSet<&str> = rules().map(|(id, _)| *id).collect();
    ids.extend([SILENCE, denials::SHORT]);
    ids.extend(SPELLINGS.iter().map(|(id, _)| *id));
    ids.extend(sizes::OF_EDNS.iter().map(|(id, _)| *id));
    ids.extend(sizes::OF_CUTS.iter().map(|(id, _)| *id));
    assert_eq!(rows, ids, "the rows of differences.md on the left, the rules on the right");
    if are_all {
        let reasons = reasons.union(&BTreeSet::from(OF_SOME_MACHINES)).copied().collect();
        let idle: Vec<_> = ids.difference(&reasons).collect();
        assert!(idle.is_empty(), "these rules explained nothing; remove them: {idle:?}");
    }
}

/// CoreDNS does not answer at all; asked for apart, because each of these takes seconds.
pub const SILENCE: &str = "ptr-of-a-slice-of-no-service";

/// The id of a row: ``| `id` | question | CoreDNS | Mainstay | why |``.
fn row(line: &'static str) -> Option<&'static str> {
    let id = line.strip_prefix("| `")?.split('`').next()?;
    assert_eq!(line.matches(" | ").count(), 4, "{id} has not five cells");
    Some(id)
}
