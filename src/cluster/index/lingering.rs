//! A Service that loses its last endpoint keeps it for a moment, for endpoints move from one slice
//! to another in two events, of which either may come first.
//!
//! ```text
//! slice a: 10.0.0.1 │ a: none │  …  │ b: 10.0.0.1      never an empty set
//! slice a: 10.0.0.1 │ a: none │  …………… 500 ms │ none   then it is true
//! ```
//!
//! Service and Namespace that are gone, and a Service that is another, are told at once. Imported
//! Services do the same, for their slices move in the same way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::Index;
use crate::cluster::object::ObjectKey;
use crate::cluster::records::ServiceHead;
use crate::cluster::trie::Leaf;

/// How long the last endpoint stays.
pub const LINGER: Duration = Duration::from_millis(500);

/// The Services that lost their last endpoint. At most one entry for each Service.
#[derive(Default)]
pub(super) struct Lingering {
    /// The time of the next publish. Without one, nothing lingers.
    now: Option<Instant>,
    /// A full list of slices has ended since the last publish.
    is_listed: bool,
    /// Services that were deleted since: what comes in their place is another one.
    gone: HashSet<ObjectKey>,
    until: HashMap<ObjectKey, Instant>,
    /// The same, the earliest first, with some that are no longer so.
    queue: VecDeque<(Instant, ObjectKey)>,
    count: u64,
}

impl Lingering {
    /// The time of the first one whose time may be over.
    fn earliest(&self) -> Option<Instant> {
        self.queue.front().map(|(until, _)| *until)
    }

    /// A list of slices has ended: what it says is whole.
    pub(super) fn end(&mut self) {
        self.is_listed = true;
    }

    /// Everything that was touched is published, and new changes come.
    pub(super) fn begin(&mut self) {
        self.is_listed = false;
        self.gone = HashSet::new();
    }

    /// A Service is deleted.
    pub(super) fn delete(&mut self, key: &ObjectKey) {
        if self.now.is_some() {
            self.gone.insert(key.clone());
        }
    }

    /// The Services whose time is over.
    pub(super) fn over(&mut self) -> Vec<ObjectKey> {
        let mut over = Vec::new();
        while let Some((until, _)) = self.queue.front()
            && (self.is_listed || self.now.is_some_and(|now| *until <= now))
        {
            let until = *until;
            let Some((_, key)) = self.queue.pop_front() else { break };
            if self.until.get(&key) == Some(&until) {
                over.push(key);
            }
        }
        over
    }

    /// Whether the records of a Service stay as they are for now.
    pub(super) fn keeps(
        &mut self,
        key: &ObjectKey,
        old: Option<&Leaf<ServiceHead>>,
        new: Option<&(ServiceHead, Vec<u8>)>,
    ) -> bool {
        let is_emptied = old.zip(new).is_some_and(|(old, (head, addresses))| {
            head.is_emptied_since(old.value()) && (head.is_of_hosts() || old.tail() == &**addresses)
        });
        let Some(now) =
            self.now.filter(|_| is_emptied && !self.is_listed && !self.gone.contains(key))
        else {
            self.until.remove(key);
            return false;
        };
        let Some(until) = self.until.get(key) else {
            self.until.insert(key.clone(), now + LINGER);
            self.queue.push_back((now + LINGER, key.clone()));
            self.count += 1;
            return true;
        };
        let is_over = *until <= now;
        if is_over {
            self.until.remove(key);
        }
        !is_over
    }
}

impl Index {
    /// Tells the time before a publish. An Index that is told none holds nothing back.
    pub fn turn_clock(&mut self, now: Instant) {
        self.sides().into_iter().for_each(|side| side.lingering.now = Some(now));
    }

    /// When it is to be published again although nothing may have changed.
    pub fn due(&self) -> Option<Instant> {
        let sides = [&self.local, &self.imported];
        sides.into_iter().filter_map(|side| side.lingering.earliest()).min()
    }

    /// How many Services kept their last endpoint since this was last asked.
    pub fn take_lingered(&mut self) -> u64 {
        self.sides().into_iter().map(|side| std::mem::take(&mut side.lingering.count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::index::tests::{empty_index, list};
    use crate::cluster::object::Slice;
    use crate::cluster::object::{Change, Endpoint, Import, Kind, Object, Part, Role, Service};
    use crate::cluster::trie::Trie;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "shop".into(), name: name.into() }
    }

    fn service(role: Role) -> Object {
        let (ports, externals) = (vec![], Box::default());
        Object::Service(Service { key: key("db"), role, ports, has_selector: true, externals })
    }

    /// A slice of the Service with these ready addresses.
    fn slice(name: &str, addresses: &[u8]) -> Object {
        let endpoint = |last: &u8| Endpoint {
            addresses: vec![[10, 0, 0, *last].into()],
            ready: true,
            hostname: None,
            zone: None,
        };
        let endpoints = addresses.iter().map(endpoint).collect();
        let parts = [Part { endpoints, ports: [].into() }].into();
        let (service, import) = (Some("db".into()), None);
        Object::Slice(Slice { key: key(name), service, import, parts, triggered_ms: None })
    }

    /// An Index at time zero with a headless Service of one endpoint, `10.0.0.1` in slice `a`.
    fn index(now: Instant) -> Index {
        let mut index = empty_index();
        index.turn_clock(now);
        let objects = [
            Object::Namespace("shop".into()),
            service(Role::Headless),
            slice("a", &[1]),
            slice("b", &[]),
        ];
        list(&mut index, objects);
        assert_eq!(shown(&mut index), [1]);
        index
    }

    /// The last octets of the addresses that are published.
    fn shown(index: &mut Index) -> Vec<u8> {
        index.publish(1);
        last_octets(&index.zone().services)
    }

    fn last_octets(services: &Trie<ServiceHead>) -> Vec<u8> {
        let zone_key = crate::cluster::schema::service_key("db", "shop").unwrap();
        let leaf = services.get(&zone_key);
        leaf.map_or(Vec::new(), |leaf| leaf.tail().chunks(4).map(|octets| octets[3]).collect())
    }

    fn apply(index: &mut Index, object: Object) {
        index.take(Change::Apply(object));
    }

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn a14_an_address_that_moves_is_there_all_the_time_and_once() {
        let now = Instant::now();
        // It comes before it goes.
        let mut index = index(now);
        apply(&mut index, slice("b", &[1]));
        assert_eq!(shown(&mut index), [1]);
        apply(&mut index, slice("a", &[]));
        assert_eq!((shown(&mut index), index.due()), (vec![1], None));
        // It goes before it comes.
        apply(&mut index, slice("b", &[]));
        assert_eq!((shown(&mut index), index.due()), (vec![1], Some(now + LINGER)));
        index.turn_clock(now + STEP);
        apply(&mut index, slice("a", &[1]));
        assert_eq!(shown(&mut index), [1]);
        index.turn_clock(now + 2 * LINGER);
        assert_eq!((shown(&mut index), index.due()), (vec![1], None));
        assert_eq!((index.take_lingered(), index.take_lingered()), (1, 0));
    }

    #[test]
    fn a14_what_stays_empty_is_empty_after_its_time() {
        let now = Instant::now();
        let mut index = index(now);
        index.take(Change::Delete(Kind::Slice, key("a")));
        assert_eq!(shown(&mut index), [1]);
        index.turn_clock(now + LINGER - STEP);
        apply(&mut index, slice("b", &[]));
        assert_eq!(shown(&mut index), [1], "another change does not end it");
        index.turn_clock(now + LINGER);
        assert_eq!((shown(&mut index), index.due()), (vec![], None));
        apply(&mut index, slice("b", &[2]));
        assert_eq!(shown(&mut index), [2], "what comes is there at once");
    }

    #[test]
    fn a14_a_move_after_a_list_that_changed_nothing_is_held() {
        let now = Instant::now();
        let mut index = index(now);
        let objects = [slice("a", &[1]), slice("b", &[])];
        index.take(Change::ListBegin(Kind::Slice));
        objects.into_iter().for_each(|object| apply(&mut index, object));
        index.take(Change::ListEnd(Kind::Slice));
        assert_eq!((shown(&mut index), index.due()), (vec![1], None));
        apply(&mut index, slice("a", &[]));
        assert_eq!((shown(&mut index), index.due()), (vec![1], Some(now + LINGER)));
    }

    #[test]
    fn a14_a_change_to_other_addresses_does_not_wait() {
        let mut index = index(Instant::now());
        apply(&mut index, slice("a", &[2]));
        assert_eq!((shown(&mut index), index.due()), (vec![2], None));
    }

    #[test]
    fn a14_services_and_namespaces_go_at_once_and_so_does_what_a_list_leaves_out() {
        let now = Instant::now();
        for kind in [Kind::Service, Kind::Namespace] {
            let mut index = index(now);
            apply(&mut index, slice("a", &[]));
            assert_eq!(shown(&mut index), [1]);
            let gone = match kind {
                Kind::Namespace => ObjectKey { namespace: "".into(), name: "shop".into() },
                _ => key("db"),
            };
            index.take(Change::Delete(kind, gone));
            assert!(shown(&mut index).is_empty());
        }
        for is_empty_before in [true, false] {
            let mut index = index(now);
            if is_empty_before {
                apply(&mut index, slice("a", &[]));
                assert_eq!(shown(&mut index), [1]);
            }
            index.take(Change::ListBegin(Kind::Slice));
            index.take(Change::ListEnd(Kind::Slice));
            assert_eq!((shown(&mut index), index.due()), (vec![], None));
        }
    }

    #[test]
    fn a14_a_service_that_was_deleted_and_made_again_does_not_wait() {
        let mut index = index(Instant::now());
        index.take(Change::Delete(Kind::Service, key("db")));
        index.take(Change::Delete(Kind::Slice, key("a")));
        apply(&mut index, service(Role::Headless));
        assert_eq!((shown(&mut index), index.due()), (vec![], None));
    }

    #[test]
    fn a14_a_service_that_is_another_does_not_wait() {
        let mut index = index(Instant::now());
        apply(&mut index, slice("a", &[]));
        apply(&mut index, service(Role::ClusterIp(vec![[10, 96, 0, 9].into()])));
        assert_eq!(shown(&mut index), [9]);
        apply(&mut index, slice("a", &[1]));
        shown(&mut index);
        // With an address of its own that changes while its endpoints go.
        apply(&mut index, slice("a", &[]));
        apply(&mut index, service(Role::ClusterIp(vec![[10, 96, 0, 7].into()])));
        assert_eq!(shown(&mut index), [7]);
    }

    fn imported(role: Role) -> Object {
        let Object::Service(service) = service(role) else { unreachable!() };
        Object::Import(service)
    }

    /// The same slice for the imported Service, of another cluster.
    fn imported_slice(name: &str, addresses: &[u8]) -> Object {
        let Object::Slice(slice) = slice(name, addresses) else { unreachable!() };
        let import = Some(Import { service: "db".into(), cluster: "far".into() });
        Object::Slice(Slice { service: None, import, ..slice })
    }

    /// An Index at time zero with an imported Service of one endpoint, in slice `a`.
    fn index_of_imports(now: Instant) -> Index {
        let mut index = empty_index();
        index.turn_clock(now);
        let objects = [
            Object::Namespace("shop".into()),
            imported(Role::Headless),
            imported_slice("a", &[1]),
            imported_slice("b", &[]),
        ];
        list(&mut index, objects);
        assert_eq!(shown_imported(&mut index), [1]);
        index
    }

    fn shown_imported(index: &mut Index) -> Vec<u8> {
        index.publish(1);
        last_octets(&index.zone().imports)
    }

    #[test]
    fn a14_an_imported_address_that_moves_is_there_all_the_time() {
        let now = Instant::now();
        let mut index = index_of_imports(now);
        apply(&mut index, imported_slice("a", &[]));
        assert_eq!((shown_imported(&mut index), index.due()), (vec![1], Some(now + LINGER)));
        assert!(last_octets(&index.zone().services).is_empty());
        index.turn_clock(now + STEP);
        apply(&mut index, imported_slice("b", &[1]));
        assert_eq!(shown_imported(&mut index), [1]);
        index.turn_clock(now + 2 * LINGER);
        assert_eq!((shown_imported(&mut index), index.due()), (vec![1], None));
        assert_eq!((index.take_lingered(), index.take_lingered()), (1, 0));
    }

    #[test]
    fn a14_an_import_that_stays_empty_is_empty_after_its_time_and_one_that_is_gone_at_once() {
        let now = Instant::now();
        let mut index = index_of_imports(now);
        index.take(Change::Delete(Kind::Slice, key("a")));
        assert_eq!(shown_imported(&mut index), [1]);
        index.turn_clock(now + LINGER);
        assert_eq!((shown_imported(&mut index), index.due()), (vec![], None));
        // Deleted and made again without endpoints: what was known is of another one.
        let mut index = index_of_imports(now);
        index.take(Change::Delete(Kind::Import, key("db")));
        index.take(Change::Delete(Kind::Slice, key("a")));
        apply(&mut index, imported(Role::Headless));
        assert_eq!((shown_imported(&mut index), index.due()), (vec![], None));
    }

    #[test]
    fn an_index_without_a_clock_holds_nothing_back() {
        let mut index = empty_index();
        let objects = [Object::Namespace("shop".into()), service(Role::Headless), slice("a", &[1])];
        list(&mut index, objects);
        assert_eq!(shown(&mut index), [1]);
        apply(&mut index, slice("a", &[]));
        assert_eq!((shown(&mut index), index.take_lingered()), (vec![], 0));
    }
}
