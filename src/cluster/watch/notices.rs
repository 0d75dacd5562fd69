//! When each fault was told: once a minute at most, with the number held back.

use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::feed::Fault;

/// Shortest time between two warnings of the same fault.
const NOTICE_EVERY: Duration = Duration::from_secs(60);

/// When each fault was told last.
#[derive(Debug, Default)]
pub(super) struct Notices {
    told: [Option<Instant>; Fault::ALL.len()],
    held_back: [u64; Fault::ALL.len()],
}

impl Notices {
    /// Whether `fault` may be told now; how many times it was held back since the last time.
    pub(super) fn tell(&mut self, fault: Fault, now: Instant) -> Option<u64> {
        let at = fault as usize;
        if self.told[at].is_some_and(|told| now.duration_since(told) < NOTICE_EVERY) {
            self.held_back[at] += 1;
            return None;
        }
        self.told[at] = Some(now);
        Some(std::mem::take(&mut self.held_back[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_once_a_minute_with_the_count_held_back() {
        let mut notices = Notices::default();
        let now = Instant::now();
        assert_eq!(notices.tell(Fault::Cut, now), Some(0));
        assert_eq!(notices.tell(Fault::Cut, now + Duration::from_secs(59)), None);
        assert_eq!(notices.tell(Fault::Server, now + Duration::from_secs(59)), Some(0));
        assert_eq!(notices.tell(Fault::Cut, now + Duration::from_secs(60)), Some(1));
    }
}
