//! What is sent next: what a response asked for, the first try and those after it, hedges; and to
//! whom.

use tokio::time::Instant;

use super::super::failure::Proto;
use super::{Course, HEDGES_MAX, HOLD_MAX, Means, Phase, Reason, Send, TRIES_OF_ONE_MAX, Try};

/// What came of the wish to send.
pub(super) enum Sending {
    Sent(Send),
    /// Not before then.
    NotBefore(Instant),
    /// There is nobody to ask, or nothing left to ask with.
    Nobody,
}

impl<A> Course<A> {
    /// Sends what is due, if anything is.
    pub(super) fn send_what_is_due(&mut self, now: Instant, means: &impl Means) -> Sending {
        while let Some(&(leg, proto)) = self.follow_ups.front() {
            let is_possible = self.roads[leg].tries(proto) < TRIES_OF_ONE_MAX;
            match is_possible.then(|| self.send(leg, proto, Reason::FollowUp, now, means)) {
                Some(Sending::NotBefore(at)) => return self.hold(at, now),
                done => {
                    self.follow_ups.pop_front();
                    if let Some(Sending::Sent(send)) = done {
                        return Sending::Sent(send);
                    }
                }
            }
        }
        if !self.tries.iter().any(|one| one.phase == Phase::Waiting) {
            return match self.send_to_best(self.reason, now, means) {
                Sending::NotBefore(at) => self.hold(at, now),
                done => done,
            };
        }
        if self.wants_hedge(now, means) {
            // A hedge is no reason to wait for packets.
            match self.send_to_best(Reason::Hedge, now, means) {
                Sending::Sent(send) => {
                    self.hedges += 1;
                    return Sending::Sent(send);
                }
                Sending::NotBefore(_) | Sending::Nobody => {}
            }
        }
        Sending::Nobody
    }

    /// Holds the question until there are packets again, if that is soon.
    fn hold(&mut self, at: Instant, now: Instant) -> Sending {
        let until = *self.held_until.get_or_insert(now + HOLD_MAX);
        if at <= until && now < until {
            return Sending::NotBefore(at);
        }
        // So that the end knows the reason.
        self.held_until = Some(now);
        self.follow_ups.clear();
        Sending::Nobody
    }

    /// Whether a try is later than its upstream uses to be, and a hedge is allowed. Each try is
    /// asked about once.
    fn wants_hedge(&mut self, now: Instant, means: &impl Means) -> bool {
        let mut is_any_late = false;
        for one in &mut self.tries {
            if one.phase == Phase::Waiting && !one.is_hedged && one.hedge_at <= now {
                (one.is_hedged, is_any_late) = (true, true);
            }
        }
        let is_free = |leg: usize| self.roads[leg].has_spare();
        let is_possible = self.hedges < HEDGES_MAX && self.best(now, is_free).is_some();
        is_any_late && is_possible && means.take_hedge()
    }

    /// Sends to the best upstream that has packets left.
    fn send_to_best(&mut self, reason: Reason, now: Instant, means: &impl Means) -> Sending {
        let mut soonest: Option<Instant> = None;
        let mut refused = Vec::new();
        loop {
            // What is only late must not cost the tries that are for what is lost.
            let may = |leg: usize| reason != Reason::Hedge || self.roads[leg].has_spare();
            let is_free = |leg| !refused.contains(&leg) && may(leg);
            let Some((leg, proto)) = self.best(now, is_free) else { break };
            match self.send(leg, proto, reason, now, means) {
                Sending::NotBefore(at) => {
                    soonest = Some(soonest.map_or(at, |sooner| sooner.min(at)));
                    refused.push(leg);
                }
                done => return done,
            }
        }
        soonest.map_or(Sending::Nobody, Sending::NotBefore)
    }

    /// The upstream to be asked next, and how. Who was asked less comes first; one that is suspect
    /// counts as asked once, one that is down as asked twice.
    fn best(&self, now: Instant, is_free: impl Fn(usize) -> bool) -> Option<(usize, Proto)> {
        let candidates = self.roads.iter().enumerate().filter(|(leg, _)| is_free(*leg));
        let ready = candidates.filter_map(|(leg, road)| {
            let tries = road.over_udp + road.over_tcp;
            // For a second opinion on a poor answer only those will do that may have one. Twice,
            // for a packet may be lost.
            let is_wanted = self.held.is_none() || (tries < 2 && self.may_better(leg, now));
            let proto = road.proto(&self.rules, self.is_guessed_at).filter(|_| is_wanted)?;
            Some(((tries + road.leg.standing as u8, tries, leg), (leg, proto)))
        });
        ready.min_by_key(|(rank, _)| *rank).map(|(_, chosen)| chosen)
    }

    fn send(
        &mut self,
        leg: usize,
        proto: Proto,
        reason: Reason,
        now: Instant,
        means: &impl Means,
    ) -> Sending {
        let is_counted = reason != Reason::FollowUp;
        if self.is_spent || (is_counted && self.counted >= self.rules.tries_max) {
            return Sending::Nobody;
        }
        if let Err(at) = means.take_packet(leg, now) {
            return Sending::NotBefore(at);
        }
        if !means.take_try() {
            self.is_spent = true;
            return Sending::Nobody;
        }
        self.held_until = None;
        self.counted += usize::from(is_counted);
        let road = &mut self.roads[leg];
        let waits = road.time_out(proto).min(self.rules.time_out_max);
        match proto {
            Proto::Udp => road.over_udp += 1,
            Proto::Tcp => road.over_tcp += 1,
        }
        let has_edns = road.has_edns;
        let number = self.tries.len();
        self.tries.push(Try {
            leg,
            proto,
            hedge_at: now + road.leg.hedge_after,
            until: now + waits,
            phase: Phase::Waiting,
            is_hedged: false,
        });
        Sending::Sent(Send { number, leg, proto, has_edns, reason })
    }
}
