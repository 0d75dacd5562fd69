//! In which order upstreams are asked. Pure: state and chance come from the caller.
//!
//! This is the seam for everything that knows more about upstreams (round-trip times, budgets,
//! a second question to another upstream before the first has failed): it would order here.

use rand::Rng;
use rand::seq::SliceRandom;

use super::config::Policy;

/// Most tries for one question, over all upstreams. RFC 9520 §3.1 allows three for each server
/// and transport; this bounds what one question can cost even with 15 upstreams.
pub const TRIES_MAX: usize = 8;

/// One upstream, and its state at the moment of the choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate<U> {
    pub upstream: U,
    pub is_down: bool,
}

/// Whether all are down: then the state says nothing, and chance decides.
pub fn all_down<U>(candidates: &[Candidate<U>]) -> bool {
    candidates.iter().all(|candidate| candidate.is_down)
}

/// The upstreams in the order of the policy, those that are down last. `turn` counts the
/// questions, for `round_robin`.
pub fn order<U>(
    mut candidates: Vec<Candidate<U>>,
    policy: Policy,
    turn: usize,
    chance: &mut impl Rng,
) -> Vec<U> {
    let count = candidates.len().max(1);
    match policy {
        _ if all_down(&candidates) => candidates.shuffle(chance),
        Policy::Random => candidates.shuffle(chance),
        Policy::RoundRobin => candidates.rotate_left(turn % count),
        Policy::Sequential => {}
    }
    candidates.sort_by_key(|candidate| candidate.is_down);
    candidates.into_iter().map(|candidate| candidate.upstream).collect()
}

/// How many tries a question has: each upstream twice, as CoreDNS's `max_connect_attempts`.
pub fn tries(upstreams: usize) -> usize {
    (2 * upstreams).min(TRIES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::entropy;
    use std::collections::HashSet;

    /// Candidates 0, 1, … ; those named are down.
    fn candidates(count: usize, down: &[usize]) -> Vec<Candidate<usize>> {
        let one = |upstream| Candidate { upstream, is_down: down.contains(&upstream) };
        (0..count).map(one).collect()
    }

    fn ordered(down: &[usize], policy: Policy, turn: usize) -> Vec<usize> {
        order(candidates(4, down), policy, turn, &mut entropy::source())
    }

    #[test]
    fn sequential_keeps_the_order_of_the_file() {
        assert_eq!(ordered(&[], Policy::Sequential, 7), [0, 1, 2, 3]);
    }

    #[test]
    fn round_robin_begins_one_further_each_time() {
        assert_eq!(ordered(&[], Policy::RoundRobin, 0), [0, 1, 2, 3]);
        assert_eq!(ordered(&[], Policy::RoundRobin, 5), [1, 2, 3, 0]);
        assert_eq!(ordered(&[], Policy::RoundRobin, usize::MAX), [3, 0, 1, 2]);
    }

    #[test]
    fn random_begins_with_each_upstream_at_some_time() {
        let firsts: HashSet<usize> =
            (0..500).map(|turn| ordered(&[], Policy::Random, turn)[0]).collect();
        assert_eq!(firsts.len(), 4);
    }

    #[test]
    fn upstreams_that_are_down_come_last() {
        assert_eq!(ordered(&[0, 2], Policy::Sequential, 0), [1, 3, 0, 2]);
        assert_eq!(ordered(&[1], Policy::RoundRobin, 1), [2, 3, 0, 1]);
        assert_eq!(ordered(&[3], Policy::Random, 0)[3], 3);
    }

    #[test]
    fn chance_decides_when_all_are_down() {
        let down = [0, 1, 2, 3];
        let firsts: HashSet<usize> =
            (0..500).map(|turn| ordered(&down, Policy::Sequential, turn)[0]).collect();
        assert_eq!(firsts.len(), 4);
    }

    #[test]
    fn the_number_of_tries_is_bounded() {
        assert_eq!([0, 1, 2, 15].map(tries), [0, 2, 4, TRIES_MAX]);
        assert!(
            order(candidates(0, &[]), Policy::RoundRobin, 3, &mut entropy::source()).is_empty()
        );
    }
}
