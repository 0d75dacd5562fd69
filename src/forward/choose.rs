//! In which order upstreams are asked first. Pure: state and chance come from the caller.

use rand::Rng;
use rand::seq::SliceRandom;

use super::config::Policy;
use super::health::Standing;

/// One upstream, and its state at the moment of the choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate<U> {
    pub upstream: U,
    pub standing: Standing,
}

/// Whether all are down: then the state says nothing, and chance decides.
pub fn all_down<U>(candidates: &[Candidate<U>]) -> bool {
    candidates.iter().all(|candidate| candidate.standing == Standing::Down)
}

/// The upstreams in the order of the policy, the suspect after the healthy and those that are
/// down last. `turn` counts the
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
    candidates.sort_by_key(|candidate| candidate.standing);
    candidates.into_iter().map(|candidate| candidate.upstream).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::entropy;
    use std::collections::HashSet;

    /// Candidates 0, 1, … ; those named are down.
    fn candidates(count: usize, down: &[usize]) -> Vec<Candidate<usize>> {
        let standing = |upstream| match down.contains(&upstream) {
            true => Standing::Down,
            false => Standing::Healthy,
        };
        let one = |upstream| Candidate { upstream, standing: standing(upstream) };
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
    fn the_suspect_stand_between_the_healthy_and_those_that_are_down() {
        let mut all = candidates(4, &[0]);
        all[1].standing = Standing::Suspect;
        let ordered = order(all, Policy::Sequential, 0, &mut entropy::source());
        assert_eq!(ordered, [2, 3, 1, 0]);
    }

    #[test]
    fn nobody_is_ordered_into_nobody() {
        let nobody = order(candidates(0, &[]), Policy::RoundRobin, 3, &mut entropy::source());
        assert!(nobody.is_empty());
    }
}
