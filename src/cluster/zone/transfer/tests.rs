//! Every record of a zone is what a query says, and changes lead from one version to the next.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::cluster::config::Pods;
use crate::cluster::index::Index;
use crate::cluster::index::tests::{any_object, empty_index, list, scope};
use crate::cluster::object::{Change, Object};
use crate::cluster::zone::{Asked, Outcome, Style};
use crate::wire::{HEADER_LEN, Query, Reply, TCP_MAX, message, walk};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The zones that are shown; only the second is that of a cluster set.
fn versions(zone: &Arc<Zone>, ignores_empty: bool) -> Vec<Version> {
    let view = Arc::new(View {
        ttl_s: 5,
        pods: Pods::Disabled,
        is_zonal: false,
        ignores_empty,
        watches_endpoints: true,
        style: Style::cluster(),
        primary: name("cluster.local"),
        own_addresses: [[10, 0, 0, 3].into(), [192, 0, 2, 1].into()].into(),
    });
    let zones = ["cluster.local", "clusterset.local", "10.in-addr.arpa", "ip6.arpa"];
    let version = |apex: &str| Version {
        zone: zone.clone(),
        view: view.clone(),
        apex: name(apex),
        in_clusterset: apex == "clusterset.local",
    };
    zones.map(version).into()
}

/// The answer section of a query: type, TTL and RDATA with names written out.
fn answers(version: &Version, owner: &[u8], rtype: RecordType) -> BTreeSet<Record> {
    let full = Name::from_wire(&[owner, version.apex.octets()].concat()).unwrap();
    let packet = message::question(&full.to_string(), rtype, None);
    let query = Query::parse(&packet).unwrap();
    let asked = Asked {
        view: &version.view,
        zone: version.apex.as_ref(),
        in_clusterset: version.in_clusterset,
        prefix: query.name().without_suffix(version.apex.as_ref()).unwrap(),
        query: &query,
        turn: 0,
    };
    let mut out = vec![0; TCP_MAX];
    let mut reply = Reply::to(&query, TCP_MAX, &mut out);
    let outcome = version.zone.lookup(&asked, &mut reply);
    if let Outcome::Alias(target) = outcome {
        let rdata = target.octets().into();
        let (owner, ttl_s) = (owner.into(), version.view.ttl_s);
        return [Record { owner, rtype: RecordType::CNAME, ttl_s, rdata }].into();
    }
    assert_eq!(outcome, Outcome::Found, "{full} {rtype}");
    let len = reply.finish();
    let count = u16::from_be_bytes([out[6], out[7]]);
    let mut at = HEADER_LEN + query.question().len();
    let read = |_| {
        let record = walk::record(&out[..len], at).unwrap();
        at = record.end;
        let mut whole = Vec::new();
        walk::write_out(&out[..len], &record, &mut whole).unwrap();
        let rdata = whole[full.octets().len() + 10..].into();
        Record { owner: owner.into(), rtype: record.rtype, ttl_s: record.ttl_s, rdata }
    };
    (0..count).map(read).collect()
}

fn publish(index: &mut Index) -> Arc<Zone> {
    index.publish(1).unwrap_or_else(|| Arc::new(index.zone().clone()))
}

fn any_objects(max: usize) -> impl Strategy<Value = Vec<Object>> {
    proptest::collection::vec(any_object(), 0..max)
}

/// The records between the first and the last SOA.
fn body(version: Version) -> Result<BTreeSet<Record>, TestCaseError> {
    let soa = version.soa();
    let mut records: Vec<Record> = version.whole().collect();
    prop_assert!(records.len() >= 2);
    prop_assert_eq!(records.pop(), Some(soa.clone()));
    prop_assert_eq!(records.remove(0), soa);
    let count = records.len();
    let set: BTreeSet<Record> = records.into_iter().collect();
    prop_assert_eq!(set.len(), count, "each record comes once");
    Ok(set)
}

proptest! {
    #[test]
    fn every_record_is_what_a_query_says(objects in any_objects(40), ignores_empty: bool) {
        let mut index = empty_index();
        let spaces = (0..3).map(|n| Object::Namespace(format!("ns{n}").into()));
        list(&mut index, spaces.chain(objects));
        let zone = publish(&mut index);
        for version in versions(&zone, ignores_empty) {
            let mut sets: BTreeMap<(Box<[u8]>, RecordType), BTreeSet<Record>> = BTreeMap::new();
            for record in body(version.clone())?.into_iter().chain([version.soa()]) {
                let set = sets.entry((record.owner.clone(), record.rtype)).or_default();
                set.insert(record);
            }
            for ((owner, rtype), set) in sets {
                prop_assert_eq!(&answers(&version, &owner, rtype), &set);
            }
        }
    }

    #[test]
    fn changes_lead_from_one_version_to_another(
        before in any_objects(30),
        after in any_objects(12),
        gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        own_list: bool,
        ignores_empty: bool,
    ) {
        let mut index = empty_index();
        list(&mut index, before.iter().cloned());
        let old = publish(&mut index);
        if own_list {
            // As when the task of the Index begins anew.
            index = Index::after(&old, &scope());
            list(&mut index, after.iter().cloned());
        } else {
            after.into_iter().for_each(|object| index.take(Change::Apply(object)));
            for at in gone.iter().filter(|_| !before.is_empty()) {
                let object = at.get(&before);
                index.take(Change::Delete(object.kind(), object.key()));
            }
        }
        let new = publish(&mut index);
        let olds = versions(&old, ignores_empty).into_iter();
        for (old, new) in olds.zip(versions(&new, ignores_empty)) {
            let mut copy = body(old.clone())?;
            let changes: Vec<Record> = new.clone().changes_since(old.clone()).unwrap().collect();
            let is_soa = |record: &Record| record.rtype == RecordType::SOA;
            let parts: Vec<&[Record]> = changes.split(is_soa).collect();
            let soas: Vec<&Record> = changes.iter().filter(|record| is_soa(record)).collect();
            prop_assert_eq!(soas, [&new.soa(), &old.soa(), &new.soa(), &new.soa()]);
            let [none, first, went, came, last] = parts[..] else { panic!("four SOA") };
            prop_assert!(none.is_empty() && first.is_empty() && last.is_empty());
            for record in went {
                prop_assert!(copy.remove(record), "only what was there goes: {:?}", record);
            }
            for record in came {
                prop_assert!(copy.insert(record.clone()), "only what is new comes: {:?}", record);
            }
            prop_assert_eq!(copy, body(new)?);
        }
    }
}

#[test]
fn pictures_that_do_not_come_from_each_other_are_not_compared() {
    let [old, new] = [(); 2].map(|()| versions(&Arc::new(Zone::unsynced()), false).remove(0));
    assert!(new.changes_since(old).is_none());
}

#[test]
fn reverse_names_are_written_as_they_are_read() {
    for text in ["10.1.2.3", "0.0.0.255", "fd00::1", "5678:abcd::1"] {
        let address: IpAddr = text.parse().unwrap();
        let name = reverse_name(octets_of(&address).as_ref()).unwrap();
        assert_eq!(schema::reverse_address(name.as_ref()), Some(address));
    }
    let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
    assert!(reverse_name(octets_of(&mapped).as_ref()).is_none());
}

#[test]
fn a_label_that_is_a_star_is_left_out() {
    assert!(is_wildcard(b"\x01*\x04shop") && !is_wildcard(b"\x02**") && !is_wildcard(b"\x01a"));
}
