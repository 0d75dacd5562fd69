//! How often each name is asked for: some names much more than others, as in every real cluster.

use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};

use super::Task;
use crate::load::Error;

/// Exponent where none is written: what traffic of caches mostly shows.
const EXPONENT_DEFAULT: f64 = 1.0;
/// Highest exponent: the first name gets 99.9 % then, and the others nothing that counts.
const EXPONENT_MAX: f64 = 10.0;

/// How often each name of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// As often as it occurs in the list: that of a capture is kept.
    AsListed,
    /// All alike, however often they occur.
    Uniform,
    /// By rank: the name of rank n is asked for in proportion to 1 / n^exponent. Ranks are by
    /// chance, that is, by the seed and the name alone: when a name comes or goes, all others keep
    /// their places.
    Zipf(f64),
}

impl Popularity {
    /// Reads `as-listed`, `uniform`, `zipf` or `zipf:EXPONENT`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (kind, exponent) = match text.split_once(':') {
            Some((kind, exponent)) => (kind, Some(exponent)),
            None => (text, None),
        };
        match (kind, exponent) {
            ("as-listed", None) => Ok(Self::AsListed),
            ("uniform", None) => Ok(Self::Uniform),
            ("zipf", None) => Ok(Self::Zipf(EXPONENT_DEFAULT)),
            ("zipf", Some(exponent)) => match exponent.parse() {
                Ok(exponent) if (0.0..=EXPONENT_MAX).contains(&exponent) => {
                    Ok(Self::Zipf(exponent))
                }
                _ => Err(Error::Config(format!(
                    "--popularity {text}: {exponent:?} is no exponent; write a number from 0 to \
                     {EXPONENT_MAX}, such as zipf:1.0"
                ))),
            },
            _ => Err(Error::Config(format!(
                "--popularity {text}: not known; write as-listed, uniform, zipf or zipf:EXPONENT"
            ))),
        }
    }
}

impl fmt::Display for Popularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsListed => f.write_str("as-listed"),
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent:?}"),
        }
    }
}

/// Tasks to draw from.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// At least one; by rank where ranks count.
    tasks: Box<[Arc<Task>]>,
    /// Different ones among them.
    pub(super) names: usize,
    /// Ranks from 1, where they count.
    ranks: Option<Zipf<f64>>,
}

impl Pool {
    /// A pool of these tasks, where the same task may occur often; `None` when there is none.
    pub(super) fn new(tasks: Vec<Arc<Task>>, popularity: Popularity, seed: u64) -> Option<Self> {
        let mut different = each_once(&tasks);
        let names = different.len();
        let (tasks, ranks) = match popularity {
            Popularity::AsListed => (tasks, None),
            Popularity::Uniform => (different, None),
            Popularity::Zipf(exponent) => {
                by_chance(&mut different, seed);
                (different, Zipf::new(names as f64, exponent).ok())
            }
        };
        (names > 0).then(|| Self { tasks: tasks.into(), names, ranks })
    }

    /// One of them.
    pub(super) fn draw(&self, dice: &mut impl Rng) -> Arc<Task> {
        let index = match &self.ranks {
            None => dice.random_range(0..self.tasks.len()),
            Some(ranks) => ranks.sample(dice) as usize - 1,
        };
        Arc::clone(&self.tasks[index.min(self.tasks.len() - 1)])
    }

    /// The different ones.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.iter()
    }
}

/// The same tasks, none of them twice.
fn each_once(tasks: &[Arc<Task>]) -> Vec<Arc<Task>> {
    let mut seen = HashSet::with_capacity(tasks.len());
    tasks.iter().filter(|task| seen.insert(Arc::as_ptr(task))).cloned().collect()
}

/// Puts tasks into an order that depends on the seed and on each of them alone.
fn by_chance(tasks: &mut [Arc<Task>], seed: u64) {
    let hasher = foldhash::quality::FixedState::with_seed(seed);
    let key = |task: &Arc<Task>| hasher.hash_one((&task.host, task.rtype));
    tasks.sort_by_cached_key(|task| (key(task), task.host.clone(), task.rtype));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::tests::task;
    use super::*;

    const DRAWS: usize = 100_000;

    fn tasks(count: usize) -> Vec<Arc<Task>> {
        (0..count).map(|number| task(&format!("host-{number}"))).collect()
    }

    /// How often each was drawn, the most popular first.
    fn drawn(tasks: Vec<Arc<Task>>, popularity: Popularity) -> Vec<(usize, String)> {
        let (pool, mut dice) = (Pool::new(tasks, popularity, 1).unwrap(), StdRng::seed_from_u64(1));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..DRAWS {
            *counts.entry(pool.draw(&mut dice).host.to_string()).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().map(|(host, count)| (count, host)).collect();
        counts.sort_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn kinds_are_read_and_written_alike() {
        for text in ["as-listed", "uniform", "zipf:1.0", "zipf:0.75", "zipf:10.0"] {
            assert_eq!(Popularity::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Popularity::parse("zipf").unwrap(), Popularity::Zipf(1.0));
    }

    #[test]
    fn what_is_no_kind_is_refused_with_the_remedy() {
        for (text, expected) in [
            ("", "write as-listed, uniform, zipf or zipf:EXPONENT"),
            ("Zipf", "write as-listed"),
            ("uniform:2", "write as-listed"),
            ("zipf:", "\"\" is no exponent; write a number from 0 to 10"),
            ("zipf:-1", "is no exponent"),
            ("zipf:NaN", "is no exponent"),
            ("zipf:11", "is no exponent"),
            ("zipf:1:2", "\"1:2\" is no exponent"),
        ] {
            let error = Popularity::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn uniform_names_are_asked_for_alike_even_if_one_is_listed_often() {
        let mut list = tasks(10);
        list.extend(vec![Arc::clone(&list[0]); 90]);
        let counts = drawn(list.clone(), Popularity::Uniform);
        let expected = DRAWS / 10;
        assert_eq!(counts.len(), 10);
        assert!(counts.iter().all(|(count, _)| count.abs_diff(expected) < expected / 10));
        let (count, host) = &drawn(list, Popularity::AsListed)[0];
        assert_eq!(host, "host-0");
        assert!(count.abs_diff(DRAWS * 91 / 100) < DRAWS / 100);
    }

    #[test]
    fn zipf_follows_the_ranks() {
        let counts = drawn(tasks(100), Popularity::Zipf(1.0));
        let harmonic: f64 = (1..=100).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1usize, 2, 4, 10] {
            let expected = DRAWS as f64 / harmonic / rank as f64;
            let (count, _) = counts[rank - 1];
            assert!((count as f64 - expected).abs() < expected * 0.1, "{rank}: {count} {expected}");
        }
        let flat = drawn(tasks(100), Popularity::Zipf(0.0));
        assert!(flat[0].0 < DRAWS / 100 * 2 && flat.len() == 100);
        assert_eq!(drawn(tasks(1), Popularity::Zipf(1.0))[0].0, DRAWS);
        assert_eq!(drawn(tasks(2), Popularity::Zipf(EXPONENT_MAX)).len(), 2);
    }

    #[test]
    fn ranks_are_by_the_seed_and_stay_when_a_name_goes() {
        let order = |tasks: Vec<Arc<Task>>, seed| {
            let pool = Pool::new(tasks, Popularity::Zipf(1.0), seed).unwrap();
            pool.iter().map(|task| task.host.to_string()).collect::<Vec<_>>()
        };
        let all = order(tasks(50), 7);
        let mut reversed = tasks(50);
        reversed.reverse();
        assert_eq!(order(reversed, 7), all);
        assert_ne!(order(tasks(50), 8), all);
        let fewer = order(tasks(49), 7);
        assert!(all.iter().filter(|host| *host != "host-49").eq(&fewer));
        assert!(Pool::new(Vec::new(), Popularity::Uniform, 7).is_none());
    }
}
