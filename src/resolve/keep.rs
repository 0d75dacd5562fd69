//! Hot Entries, written for the next start and taken back.
//!
//! Only positive ones: a denial that waited in a file may hide what exists by now. Each goes back
//! to the route that it came from, which is its cache and the upstreams behind it, and gets no more
//! time than it had: what is older than its TTL comes back stale.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Cache;
use super::entry::Entry;
use crate::cluster::snapshot::octets::{Cursor, Writer};
use crate::wire::{Answer, Question};

/// Most Entries that are written of one cache: those that clients ask for all the time.
pub const ENTRIES_MAX: usize = 4096;
/// Most octets that are written of one cache.
pub const OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Largest response that is believed.
const RESPONSE_LEN_MAX: usize = 65_535;

/// A cache, and in words that are the same at the next start, where its Answers come from.
#[derive(Clone)]
pub struct Route {
    pub name: String,
    pub cache: Arc<Cache>,
}

/// Writes the hot Entries of some routes. Answers how many there are.
pub fn write(writer: &mut Writer, routes: &[Route], now: Instant) -> usize {
    let mut count = 0;
    for route in routes {
        writer.text(&route.name);
        let end = writer.len() + OCTETS_MAX;
        for (question, entry) in route.cache.positives(ENTRIES_MAX) {
            if writer.len() >= end {
                break;
            }
            if let Some((fresh, stale)) = time_left(&entry, now) {
                writer.flag(true);
                writer.octets(question.octets());
                writer.number(fresh.as_millis() as u64);
                writer.number(stale.as_millis() as u64);
                writer.octets(&entry.answer.to_response(question.section()));
                count += 1;
            }
        }
        writer.flag(false);
    }
    count
}

/// How long an Entry is still fresh, and how long stale after that.
fn time_left(entry: &Entry, now: Instant) -> Option<(Duration, Duration)> {
    let age = now.saturating_duration_since(entry.stored);
    let left = entry.retention().checked_sub(age).filter(|left| !left.is_zero())?;
    let fresh = entry.ttl.saturating_sub(age);
    Some((fresh, left - fresh))
}

/// Puts Entries back that were written `age` ago. Answers how many; what makes no sense ends it.
pub fn read(cursor: &mut Cursor<'_>, routes: &[Route], age: Duration, now: Instant) -> usize {
    let mut count = 0;
    while !cursor.is_empty() {
        let Some(name) = cursor.text() else { return count };
        let route = routes.iter().find(|route| route.name == name);
        while let Some(true) = cursor.flag() {
            let Some(found) = read_one(cursor) else { return count };
            let taken = route.and_then(|route| found.put_into(&route.cache, age, now));
            count += usize::from(taken.is_some());
        }
    }
    count
}

/// An Entry as it was written.
struct Found<'f> {
    question: &'f [u8],
    fresh: Duration,
    stale: Duration,
    response: &'f [u8],
}

fn read_one<'f>(cursor: &mut Cursor<'f>) -> Option<Found<'f>> {
    let question = cursor.octets()?;
    let fresh = Duration::from_millis(cursor.number()?);
    let stale = Duration::from_millis(cursor.number()?);
    Some(Found { question, fresh, stale, response: cursor.octets()? })
}

impl Found<'_> {
    /// Puts it back with what is left of its time, if there is any.
    fn put_into(self, cache: &Cache, age: Duration, now: Instant) -> Option<()> {
        let question = Question::from_octets(self.question)?;
        let response = Some(self.response).filter(|it| it.len() <= RESPONSE_LEN_MAX)?;
        let answer = Answer::from_response(response, question.section()).ok()?;
        let fresh = self.fresh.saturating_sub(age);
        let stale = self.stale.saturating_sub(age.saturating_sub(self.fresh));
        let fresh_s = u32::try_from(fresh.as_secs()).ok()?;
        if fresh_s == 0 && stale.is_zero() {
            return None;
        }
        cache.restore(question, answer, fresh_s, stale, now);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::config::{CacheConfig, Refresh, STALE_DEFAULT, Stale};
    use crate::resolve::entry::Freshness;
    use crate::wire::message::tests::response;
    use crate::wire::{Name, RecordType};

    fn route(name: &str) -> Route {
        let config = CacheConfig {
            serve_stale: Some(Stale {
                keep: Duration::from_secs(60),
                refresh: Refresh::Immediate,
                ..STALE_DEFAULT
            }),
            ..CacheConfig::default()
        };
        Route { name: name.into(), cache: Arc::new(Cache::new(config, vec![Name::root()])) }
    }

    fn question(name: &str) -> Question {
        Question::new(&Name::parse(name).unwrap(), RecordType::A)
    }

    fn store(route: &Route, name: &str, ttl_s: u32, now: Instant) {
        let (section, response) =
            response(&format!("{name} A NOERROR\n{name} {ttl_s} A 192.0.2.1"));
        let answer = Answer::from_response(&response, &section).unwrap();
        route.cache.store(&question(name), &answer, now).unwrap();
    }

    fn freshness(route: &Route, name: &str, now: Instant) -> Option<Freshness> {
        route.cache.get(question(name).octets(), now).map(|(_, freshness)| freshness)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn entries_come_back_to_their_route_with_what_is_left_of_their_time() {
        let (one, two, now) = (route("one"), route("two"), Instant::now());
        store(&one, "short.example.", 20, now);
        store(&one, "long.example.", 300, now);
        store(&two, "other.example.", 300, now);
        let mut writer = Writer::default();
        assert_eq!(write(&mut writer, &[one, two], now + 5 * SECOND), 3);
        let octets = writer.into_octets();
        // The second route has other upstreams by now.
        let routes = [route("one"), route("three")];
        let taken = read(&mut Cursor::new(&octets), &routes, 20 * SECOND, now);
        assert_eq!(taken, 2);
        assert_eq!(freshness(&routes[0], "long.example.", now), Some(Freshness::Fresh(275)));
        assert_eq!(freshness(&routes[0], "short.example.", now), Some(Freshness::Stale));
        assert_eq!(freshness(&routes[0], "short.example.", now + 56 * SECOND), None);
        assert_eq!(freshness(&routes[1], "other.example.", now), None);
        let much_later = [route("one")];
        assert_eq!(read(&mut Cursor::new(&octets), &much_later, 400 * SECOND, now), 0);
    }

    #[test]
    fn p11_cut_and_damaged_octets_end_the_reading_and_panic_nowhere() {
        let (one, now) = (route("one"), Instant::now());
        (0..5).for_each(|n| store(&one, &format!("{n}.example."), 300, now));
        let mut writer = Writer::default();
        write(&mut writer, std::slice::from_ref(&one), now);
        let octets = writer.into_octets();
        for at in 0..octets.len() {
            let routes = [route("one")];
            assert!(read(&mut Cursor::new(&octets[..at]), &routes, SECOND, now) <= 5);
            let mut damaged = octets.clone();
            damaged[at] ^= 0x55;
            read(&mut Cursor::new(&damaged), &routes, SECOND, now);
        }
    }
}
