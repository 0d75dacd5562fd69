//! What one upstream is to a question: how often it was asked, over which transport, and how it is
//! to be asked next.

use std::time::Duration;

use super::{Leg, Proto, Rules, TCP_TIME_OUT_MIN, TRIES_OF_ONE_MAX};

/// Tries over TCP at an upstream that was silent over UDP: all that can be learnt by one.
const RESCUES_MAX: u8 = 1;
/// Errors of the network at one upstream after which this question leaves it alone. One may have
/// been forged.
pub(super) const BROKEN_MAX: u8 = 2;

/// One upstream during the question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Road {
    pub leg: Leg,
    pub over_udp: u8,
    pub over_tcp: u8,
    pub broken: u8,
    pub has_edns: bool,
    /// It cuts its answer over UDP.
    pub is_cut: bool,
    /// It cannot be reached over TCP.
    pub lacks_tcp: bool,
    /// It was silent over TCP, where UDP may do as well.
    pub is_slow_over_tcp: bool,
    /// Its answer was a poor one.
    pub was_poor: bool,
}

impl Road {
    pub fn new(leg: Leg) -> Self {
        Self {
            leg,
            over_udp: 0,
            over_tcp: 0,
            broken: 0,
            has_edns: true,
            is_cut: false,
            lacks_tcp: false,
            is_slow_over_tcp: false,
            was_poor: false,
        }
    }

    pub fn tries(&self, proto: Proto) -> u8 {
        match proto {
            Proto::Udp => self.over_udp,
            Proto::Tcp => self.over_tcp,
        }
    }

    /// Whether a try over UDP would be left after the next one.
    pub fn has_spare(&self) -> bool {
        self.over_udp + 1 < TRIES_OF_ONE_MAX
    }

    /// What it is when somebody who refused to listen may be back. The last refusal counts for no
    /// question: nobody was asked (RFC 9520 §3.1).
    pub fn rested(mut self, rules: &Rules) -> Self {
        if self.broken >= BROKEN_MAX {
            (self.broken, self.lacks_tcp) = (BROKEN_MAX - 1, false);
            let tries = if rules.is_tcp_only { &mut self.over_tcp } else { &mut self.over_udp };
            *tries = tries.saturating_sub(1);
        }
        self
    }

    /// How it is asked next; `None` if it is not.
    pub fn proto(&self, rules: &Rules, is_guessed_at: bool) -> Option<Proto> {
        let has_tries = |proto| self.tries(proto) < TRIES_OF_ONE_MAX;
        if self.broken >= BROKEN_MAX {
            return None;
        }
        // What cannot be had over TCP is asked for over UDP once more: a guess must not be able
        // to stop us, nor a client that came over TCP itself.
        let prefers_tcp = (is_guessed_at || rules.over_tcp) && !self.is_slow_over_tcp;
        if rules.is_tcp_only || self.is_cut || (prefers_tcp && !self.lacks_tcp) {
            return (has_tries(Proto::Tcp) && !self.lacks_tcp).then_some(Proto::Tcp);
        }
        // Silent over UDP: something on the way may let only TCP pass. Where that is silent too,
        // its long time-out has the last try over UDP outlive a short cut of the network.
        let is_rescue = self.over_tcp < RESCUES_MAX && self.broken == 0 && !self.lacks_tcp;
        if is_rescue && !self.has_spare() {
            return Some(Proto::Tcp);
        }
        has_tries(Proto::Udp).then_some(Proto::Udp)
    }

    /// How long the next try waits: the third and those after it half as long again each. A second
    /// one more often follows a lost packet than a crowd.
    pub fn time_out(&self, proto: Proto) -> Duration {
        let before = u32::from((self.over_udp + self.over_tcp).saturating_sub(1));
        match proto {
            Proto::Udp => self.leg.time_out * (2 + before) / 2,
            Proto::Tcp => self.leg.time_out.max(TCP_TIME_OUT_MIN),
        }
    }
}
