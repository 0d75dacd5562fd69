//! Shares of lookups by kind, beside the list: `foreign=10,missing=5,ptr=2,srv=2,random=1`.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use rand::{Rng, RngExt};

use super::{Class, Expect, Recipe, Task};
use crate::load::Error;
use crate::wire::name::{LABEL_MAX, Labels, NAME_MAX};
use crate::wire::{Name, NameRef, RecordType};

/// Different names that do not exist. More would only measure a larger cache.
const MISSING_NAMES: usize = 1000;
/// Characters of a label by chance: 80 bits, so that none comes twice.
const RANDOM_LABEL_LEN: usize = 16;
/// The letters of such a label.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Most names that `--foreign` may list.
pub const FOREIGN_MAX: usize = 10_000;

/// What part of the lookups is of each kind, in percent; the rest is from the list.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    /// Names outside of the cluster.
    pub foreign: f64,
    /// Names that do not exist.
    pub missing: f64,
    /// Names of addresses.
    pub ptr: f64,
    /// Ports of Services.
    pub srv: f64,
    /// Labels by chance.
    pub random: f64,
}

impl Mix {
    const KINDS: [&str; 5] = ["foreign", "missing", "ptr", "srv", "random"];

    /// Reads shares such as `foreign=10,ptr=0.5`; the empty text has none.
    ///
    /// # Errors
    /// An unknown kind, one that comes twice, what is no percentage, more than 100 % in all.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: String| Error::Config(format!("--mix {text}: {what}"));
        let (mut mix, mut seen) = (Self::default(), BTreeSet::new());
        for item in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let (kind, share) = item.split_once('=').ok_or_else(|| {
                wrong(format!("{item:?} is no share; write KIND=PERCENT, such as foreign=10"))
            })?;
            let slot = mix.share(kind).ok_or_else(|| wrong(unknown(kind)))?;
            *slot = percent(share).ok_or_else(|| {
                wrong(format!("{share:?} is no percentage; write a number from 0 to 100"))
            })?;
            if !seen.insert(kind) {
                return Err(wrong(format!("{kind} comes twice; write it once")));
            }
        }
        if mix.sum() > 100.0 {
            return Err(wrong(format!("{} % in all; leave it at 100 or below", mix.sum())));
        }
        Ok(mix)
    }

    /// What is left for the list, in percent.
    pub fn rest(&self) -> f64 {
        100.0 - self.sum()
    }

    /// All shares together. Tenths are no sums of powers of two, and thrice 33.3 and 0.1 are 100.
    fn sum(&self) -> f64 {
        let sum = self.foreign + self.missing + self.ptr + self.srv + self.random;
        (sum * 1e9).round() / 1e9
    }

    /// The share of a kind.
    fn share(&mut self, kind: &str) -> Option<&mut f64> {
        Some(match kind {
            "foreign" => &mut self.foreign,
            "missing" => &mut self.missing,
            "ptr" => &mut self.ptr,
            "srv" => &mut self.srv,
            "random" => &mut self.random,
            _ => return None,
        })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mix = *self;
        let mut before = "";
        for kind in Self::KINDS {
            let share = mix.share(kind).map_or(0.0, |share| *share);
            if share > 0.0 {
                write!(f, "{before}{kind}={share}")?;
                before = ",";
            }
        }
        Ok(())
    }
}

/// Reads a percentage, with its sign or without.
fn percent(text: &str) -> Option<f64> {
    let share: f64 = text.strip_suffix('%').unwrap_or(text).parse().ok()?;
    (0.0..=100.0).contains(&share).then_some(share)
}

/// What to say of a word that is no kind.
fn unknown(kind: &str) -> String {
    let known = Mix::KINDS.join(", ");
    // Kinds differ in their first letters, which are seldom the ones that are misspelt.
    let first = kind.chars().next().map(|letter| letter.to_ascii_lowercase());
    let meant = Mix::KINDS.iter().find(|known| known.chars().next() == first);
    match meant {
        Some(meant) => format!("{kind:?} is no kind; did you mean {meant}? (kinds: {known})"),
        None => format!("{kind:?} is no kind; write one of {known}"),
    }
}

/// The names of `--foreign`.
///
/// # Errors
/// One is no name, or there are more than [`FOREIGN_MAX`].
pub fn foreign(names: &[impl AsRef<str>]) -> Result<Vec<Arc<Task>>, Error> {
    if names.len() > FOREIGN_MAX {
        return Err(Error::Config(format!(
            "--foreign: more than {FOREIGN_MAX} names; put them into a file for --names"
        )));
    }
    names.iter().map(|name| foreign_name(name.as_ref())).collect()
}

/// One of them.
fn foreign_name(host: &str) -> Result<Arc<Task>, Error> {
    let parsed = Name::parse(host).map_err(|error| error.to_string());
    let name = parsed.and_then(|name| {
        let is_root = name.as_ref().is_root();
        if is_root { Err("it has no label".to_owned()) } else { Ok(name) }
    });
    let name = name.map_err(|error| {
        let remedy = "write it as www.example.org";
        Error::Config(format!("--foreign {host:?}: {error}; {remedy}"))
    })?;
    let (class, expect) = (Class::Foreign, Expect::Exists);
    let host = host.to_ascii_lowercase().into();
    Ok(Arc::new(Task { host, name, rtype: RecordType::A, class, expect }))
}

/// Names that do not exist, beside those of the list: in their Namespaces, or in that of the
/// clients where the list has none.
pub(super) fn missing(list: &[Arc<Task>], recipe: &Recipe) -> Vec<Arc<Task>> {
    let domain = recipe.domain.as_ref();
    let mut namespaces: BTreeSet<&[u8]> =
        list.iter().filter_map(|task| namespace(task.name.as_ref(), domain)).collect();
    if namespaces.is_empty() {
        namespaces.insert(recipe.namespace.as_bytes());
    }
    let known: HashSet<&Name> = list.iter().map(|task| &task.name).collect();
    let namespaces = Vec::from_iter(namespaces);
    let numbered = namespaces.iter().copied().cycle().zip(0..MISSING_NAMES);
    let tasks = numbered.filter_map(|(namespace, number)| {
        let service = format!("no-such-{number}");
        let labels = [service.as_bytes(), namespace, b"svc"];
        let name = Name::from_labels(labels, domain).ok()?;
        let namespace = std::str::from_utf8(namespace).ok()?;
        let host = super::host(&[&service], namespace, &recipe.namespace);
        let (class, expect) = (Class::Missing, Expect::Missing);
        (!known.contains(&name))
            .then(|| Arc::new(Task { host, name, rtype: RecordType::A, class, expect }))
    });
    tasks.collect()
}

/// The Namespace that a name of the cluster is in.
fn namespace<'n>(name: NameRef<'n>, domain: NameRef<'_>) -> Option<&'n [u8]> {
    let prefix = name.without_suffix(domain)?;
    let depth = Labels::of(prefix).count().checked_sub(3)?;
    let mut tail = Labels::of(prefix).skip(depth + 1);
    let (namespace, svc) = (tail.next()?, tail.next()?);
    (svc == b"svc").then_some(namespace)
}

/// Tasks of a type that the list has, as tasks of a kind: the share of it is drawn from these.
pub(super) fn of_type(list: &[Arc<Task>], rtype: RecordType, class: Class) -> Vec<Arc<Task>> {
    let mut seen = HashSet::new();
    let tasks = list.iter().filter(|task| task.rtype == rtype && seen.insert(&task.host));
    tasks.map(|task| Arc::new(Task { class, ..Task::clone(task) })).collect()
}

/// Makes names that nobody has asked for before.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    bases: Box<[Base]>,
}

/// What a label by chance is put below.
#[derive(Clone, Debug)]
struct Base {
    name: Name,
    /// What an application writes behind the label, with its dot.
    host: Box<str>,
    expect: Expect,
}

impl Fresh {
    /// Labels below the domains of the foreign names where the mix asks for such names, and in the
    /// clients' Namespace otherwise: servers of other people get no random names unasked.
    ///
    /// # Errors
    /// A base is so long that no label fits before it.
    pub(super) fn new(recipe: &Recipe) -> Result<Self, Error> {
        let bases = if recipe.mix.foreign > 0.0 {
            let domains: BTreeSet<Name> =
                recipe.foreign.iter().map(|task| domain(task.name.as_ref())).collect();
            domains.into_iter().map(Base::foreign).collect()
        } else {
            let labels = [recipe.namespace.as_bytes(), b"svc"];
            let name = Name::from_labels(labels, recipe.domain.as_ref());
            name.map(|name| Base { name, host: "".into(), expect: Expect::Missing })
                .into_iter()
                .collect()
        };
        let bases: Box<[Base]> = bases;
        let has_room = |base: &Base| base.name.octets().len() + RANDOM_LABEL_LEN < NAME_MAX;
        if bases.is_empty() || !bases.iter().all(has_room) {
            return Err(Error::Config(
                "--mix random: no room for a label before the domain; use shorter names with \
                 --foreign or a shorter --cluster-domain"
                    .into(),
            ));
        }
        Ok(Self { bases })
    }

    /// A name.
    pub(super) fn draw(&self, dice: &mut impl Rng) -> Arc<Task> {
        const _: () = assert!(RANDOM_LABEL_LEN <= LABEL_MAX);
        let base = &self.bases[dice.random_range(0..self.bases.len())];
        let bits: u128 = dice.random();
        let label: String = (0..RANDOM_LABEL_LEN)
            .map(|index| LETTERS[(bits >> (5 * index)) as usize % LETTERS.len()] as char)
            .collect();
        let name = Name::from_labels([label.as_bytes()], base.name.as_ref())
            .expect("there is room for the label, checked when it was built");
        let (rtype, class) = (RecordType::A, Class::Random);
        let host = (label + &base.host).into();
        Arc::new(Task { host, name, rtype, class, expect: base.expect })
    }

    /// What the labels are below.
    pub(super) fn describe(&self) -> String {
        let first = &self.bases[0].name;
        match self.bases.len() - 1 {
            0 => format!("below {first}"),
            more => format!("below {first} and {more} more"),
        }
    }
}

impl Base {
    /// A domain of other people, which may have wildcards.
    fn foreign(name: Name) -> Self {
        let text = name.to_string();
        let host = format!(".{}", text.trim_end_matches('.')).into();
        Self { name, host, expect: Expect::Any }
    }
}

/// The domain that a host is in; a name of two labels is one, and what is above is a registry.
fn domain(name: NameRef<'_>) -> Name {
    let parent = name.parent().filter(|_| name.labels().count() > 2);
    parent.unwrap_or(name).to_name()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, recipe, task};
    use super::*;

    #[test]
    fn shares_are_read_and_written_alike() {
        for text in ["foreign=10,missing=5,ptr=2,srv=2,random=1", "random=0.5", "missing=100", ""] {
            assert_eq!(Mix::parse(text).unwrap().to_string(), text);
        }
        let mix = Mix::parse(" ptr=33.3, srv=33.3% ,missing=33.3,random=0.1 ").unwrap();
        assert_eq!((mix.ptr, mix.srv, mix.rest()), (33.3, 33.3, 0.0));
        assert_eq!(Mix::parse("  ").unwrap(), Mix::default());
    }

    #[test]
    fn shares_that_make_no_sense_are_refused_with_the_remedy() {
        for (text, expected) in [
            ("foregin=1", "\"foregin\" is no kind; did you mean foreign? (kinds: foreign, missing"),
            ("Ptr=1", "did you mean ptr?"),
            ("web=1", "write one of foreign, missing, ptr, srv, random"),
            ("=1", "write one of"),
            ("foreign", "\"foreign\" is no share; write KIND=PERCENT"),
            ("foreign=1,", "\"\" is no share"),
            ("foreign=", "\"\" is no percentage; write a number from 0 to 100"),
            ("foreign=-1", "is no percentage"),
            ("foreign=101", "is no percentage"),
            ("foreign=NaN", "is no percentage"),
            ("ptr=1,ptr=2", "ptr comes twice"),
            ("ptr=60,srv=40.5", "100.5 % in all; leave it at 100 or below"),
        ] {
            let error = Mix::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--mix {text}: ")), "{error}");
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn foreign_names_exist() {
        let tasks = foreign(&["www.Example.org", "example.net."]).unwrap();
        assert_eq!((&*tasks[0].host, &*tasks[1].host), ("www.example.org", "example.net."));
        let task = &tasks[0];
        assert_eq!((task.class, task.expect), (Class::Foreign, Expect::Exists));
        assert_eq!(task.name.to_string(), "www.example.org.");
        for (host, expected) in [("a..b", "empty label"), (".", "no label"), ("", "no label")] {
            let error = foreign(&[host]).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("write it as"), "{error}");
        }
        assert!(foreign(&vec!["a.example"; FOREIGN_MAX + 1]).is_err());
    }

    #[test]
    fn missing_names_are_beside_those_of_the_cluster() {
        let mut list = cluster();
        list.push(task("no-such-1.shop.svc.cluster.local"));
        let tasks = missing(&list, &recipe("", "default"));
        let hosts: Vec<&str> = tasks.iter().map(|task| &*task.host).collect();
        assert_eq!(hosts[..3], ["no-such-0", "no-such-2", "no-such-3.shop"]);
        assert_eq!(tasks.len(), MISSING_NAMES - 1);
        assert_eq!(tasks[0].name.to_string(), "no-such-0.default.svc.cluster.local.");
        assert!(tasks.iter().all(|task| task.expect == Expect::Missing));
        let tasks = missing(&[task("www.example.org")], &recipe("", "ours"));
        assert!(
            tasks.iter().all(|task| task.name.to_string().ends_with(".ours.svc.cluster.local."))
        );
    }

    #[test]
    fn random_names_are_where_they_are_asked_for() {
        let mut dice = rand::rng();
        let ours = Fresh::new(&recipe("random=1", "default")).unwrap().draw(&mut dice);
        assert_eq!(ours.host.len(), RANDOM_LABEL_LEN);
        assert_eq!(ours.name.to_string(), format!("{}.default.svc.cluster.local.", ours.host));
        assert_eq!((ours.class, ours.expect), (Class::Random, Expect::Missing));
        let mut recipe = recipe("random=1,foreign=1", "default");
        recipe.foreign = foreign(&["www.example.org", "a.b.example.org", "example.net"]).unwrap();
        let fresh = Fresh::new(&recipe).unwrap();
        assert_eq!(fresh.bases.len(), 3);
        for _ in 0..20 {
            let task = fresh.draw(&mut dice);
            let base = task.host.split_once('.').unwrap().1;
            assert!(["example.org", "b.example.org", "example.net"].contains(&base), "{base}");
            assert_eq!(task.name.to_string(), format!("{}.", task.host));
            assert_eq!(task.expect, Expect::Any);
        }
    }

    #[test]
    fn a_domain_without_room_for_a_label_is_refused() {
        let mut recipe = recipe("random=1", "default");
        let label = "a".repeat(63);
        recipe.domain = Name::parse(&format!("{label}.{label}.{label}.{}", &label[..40])).unwrap();
        let error = Fresh::new(&recipe).unwrap_err().to_string();
        assert!(error.contains("shorter --cluster-domain"), "{error}");
    }
}
