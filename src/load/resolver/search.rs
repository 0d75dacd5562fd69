//! Which names are asked for a host, and in which order. Pure.
//!
//! ```text
//!                     dots < ndots            dots ≥ ndots
//! glibc, Go, …        list, then as written   as written, then list
//! musl                list, then as written   as written
//! with a last dot     as written              as written
//! ```

use super::ResolvConf;
use crate::wire::Name;

/// What a host becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// The host as it is written; `None` when that is no name.
    pub absolute: Option<Name>,
    /// The host below each search domain. What gets too long for a name is not there.
    pub listed: Vec<Name>,
    /// When `absolute` is asked.
    pub order: Order,
}

/// When the host as written is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It ends with a dot: nothing else is asked.
    Only,
    /// It has `ndots` dots: before the list.
    First,
    /// After the list.
    Last,
}

impl Candidates {
    /// All that a host may mean.
    pub fn of(host: &str, conf: &ResolvConf) -> Self {
        let absolute = Name::parse(host).ok().filter(|name| !name.as_ref().is_root());
        let dots = host.bytes().filter(|octet| *octet == b'.').count();
        let order = match () {
            () if host.ends_with('.') => Order::Only,
            () if dots >= usize::from(conf.ndots) => Order::First,
            () => Order::Last,
        };
        let listed = match (&absolute, order) {
            (Some(name), Order::First | Order::Last) => below_each(name, &conf.search),
            _ => Vec::new(),
        };
        Self { absolute, listed, order }
    }

    /// The order of glibc, Go and c-ares.
    pub fn all(self) -> Vec<Name> {
        let mut names = self.listed;
        match self.order {
            Order::Only | Order::First => names.splice(..0, self.absolute).for_each(drop),
            // A search list with the root in it has asked that already.
            Order::Last => names.extend(self.absolute.filter(|name| !names.contains(name))),
        }
        names
    }

    /// The order of musl.
    pub fn all_or_absolute(mut self) -> Vec<Name> {
        if self.order != Order::Last {
            self.listed.clear();
        }
        self.all()
    }
}

/// The name below each of the domains that leave room for it.
fn below_each(name: &Name, domains: &[Name]) -> Vec<Name> {
    let below = |domain: &Name| Name::from_labels(name.as_ref().labels(), domain.as_ref()).ok();
    domains.iter().filter_map(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf() -> ResolvConf {
        ResolvConf::of_pod("shop", "cluster.local", Vec::new()).unwrap()
    }

    fn texts(names: &[Name]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn few_dots_go_through_the_list_first() {
        let names = Candidates::of("web.shop", &conf()).all();
        let expected = [
            "web.shop.shop.svc.cluster.local.",
            "web.shop.svc.cluster.local.",
            "web.shop.cluster.local.",
            "web.shop.",
        ];
        assert_eq!(texts(&names), expected);
        assert_eq!(texts(&Candidates::of("Web.shop", &conf()).all_or_absolute()), expected);
    }

    #[test]
    fn many_dots_are_asked_as_written_first_and_by_musl_only() {
        let candidates = Candidates::of("a.b.c.d.e.f", &conf());
        let names = texts(&candidates.clone().all());
        assert_eq!((&names[0][..], &names[3][..]), ("a.b.c.d.e.f.", "a.b.c.d.e.f.cluster.local."));
        assert_eq!(texts(&candidates.all_or_absolute()), ["a.b.c.d.e.f."]);
    }

    #[test]
    fn a_last_dot_ends_the_search() {
        assert_eq!(texts(&Candidates::of("web.", &conf()).all()), ["web."]);
        assert_eq!(texts(&Candidates::of("web.", &conf()).all_or_absolute()), ["web."]);
    }

    #[test]
    fn the_root_in_the_list_is_the_host_as_written() {
        let search = vec![Name::root(), Name::parse("b").unwrap()];
        let names = Candidates::of("web", &ResolvConf { search, ..conf() }).all();
        assert_eq!(texts(&names), ["web.", "web.b."]);
    }

    #[test]
    fn what_is_no_name_or_too_long_is_not_asked() {
        assert_eq!(Candidates::of("a..b", &conf()).all(), []);
        assert_eq!(Candidates::of("", &conf()).all(), []);
        assert_eq!(Candidates::of(".", &conf()).all(), []);
        let long = vec!["a".repeat(60); 4].join(".");
        assert_eq!(texts(&Candidates::of(&long, &conf()).all()), [format!("{long}.")]);
    }
}
