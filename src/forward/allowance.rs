//! What upstreams may be burdened with: packets per second, and questions beyond the first.
//! Reads no clock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Packets per second to the resolver of EC2, unless the directive says otherwise: the network
/// silently drops what exceeds 1024 from one interface, and others on the node ask it too.
pub const EC2_PACKETS_PER_SECOND: u32 = 900;
/// The resolver of EC2 under its fixed addresses. That of the VPC (its network plus two) cannot be
/// told from other addresses and wants the option.
const EC2_RESOLVERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253)),
];
/// Part of a second whose packets may leave at once. A tenth: in no second more than eleven.
const BURST_PART: u32 = 10;
/// Most hedges that may come at once, however quiet it was before.
pub const HEDGE_BURST: u32 = 10;

/// Packets per second to one upstream: a bucket that time fills.
#[derive(Debug)]
pub struct Pace {
    /// Between two packets.
    interval: Duration,
    /// How far ahead of the time packets may be.
    burst: Duration,
    /// When the bucket is full again.
    full_at: Mutex<Option<Instant>>,
}

/// Hedges as a share of all questions: a bucket that questions fill.
#[derive(Debug)]
pub struct Share {
    percent: u32,
    /// In hundredths of a hedge.
    credit: AtomicU32,
}

impl Pace {
    /// That of the directive, or what is known of the address; `None` is no bound.
    pub fn of(address: IpAddr, configured: Option<u32>) -> Option<Self> {
        let known = EC2_RESOLVERS.contains(&address).then_some(EC2_PACKETS_PER_SECOND);
        configured.or(known).filter(|&rate| rate > 0).map(Self::new)
    }

    /// `rate` packets per second.
    fn new(rate: u32) -> Self {
        let interval = Duration::from_secs(1) / rate;
        let burst = (Duration::from_secs(1) / BURST_PART).max(interval);
        Self { interval, burst, full_at: Mutex::new(None) }
    }

    /// Takes one packet.
    ///
    /// # Errors
    /// When there will be one.
    pub fn take(&self, now: Instant) -> Result<(), Instant> {
        let mut full_at = self.full_at.lock();
        let next = full_at.map_or(now, |at| at.max(now)) + self.interval;
        let ready_at = next.checked_sub(self.burst).unwrap_or(now);
        if ready_at > now {
            return Err(ready_at);
        }
        *full_at = Some(next);
        Ok(())
    }
}

impl Share {
    /// `percent` of all questions, and [`HEDGE_BURST`] of them at first.
    pub fn new(percent: u32) -> Self {
        let credit = if percent == 0 { 0 } else { HEDGE_BURST * 100 };
        Self { percent, credit: AtomicU32::new(credit) }
    }

    /// A question is asked.
    pub fn earn(&self) {
        let more = |credit: u32| Some((credit + self.percent).min(HEDGE_BURST * 100));
        // The closure never declines.
        let _ = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes one hedge, if there is one.
    pub fn spend(&self) -> bool {
        let less = |credit: u32| credit.checked_sub(100);
        self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_eleven_tenths_of_the_pace() {
        let pace = Pace::new(900);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let sent: Vec<u64> = (0..3000)
            .flat_map(|ms| (0..5).map(move |_| ms))
            .filter(|&ms| pace.take(at(ms)).is_ok())
            .collect();
        for second in (0..2000).step_by(50) {
            let count = sent.iter().filter(|&&ms| (second..second + 1000).contains(&ms)).count();
            assert!((895..=991).contains(&count), "{count} packets from {second} ms on");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_too_early_is_told_when_to_come() {
        let pace = Pace::new(10);
        let start = Instant::now();
        assert_eq!(pace.take(start), Ok(()));
        let ready_at = pace.take(start).unwrap_err();
        assert_eq!(ready_at, start + Duration::from_millis(100));
        assert_eq!(pace.take(ready_at), Ok(()));
    }

    #[test]
    fn only_the_resolver_of_ec2_has_a_pace_of_its_own() {
        let of = |address: &str, configured| Pace::of(address.parse().unwrap(), configured);
        assert!(of("169.254.169.253", None).is_some() && of("fd00:ec2::253", None).is_some());
        assert!(of("10.0.0.2", None).is_none() && of("10.0.0.2", Some(500)).is_some());
        assert!(of("169.254.169.253", Some(0)).is_none(), "0 is no bound");
    }

    #[test]
    fn hedges_are_a_share_of_the_questions() {
        let share = Share::new(10);
        let hedges = (0..10_000).filter(|_| {
            share.earn();
            share.spend()
        });
        assert!((1000..=1000 + HEDGE_BURST as usize).contains(&hedges.count()));
        let none = Share::new(0);
        none.earn();
        assert!(!none.spend());
    }
}
