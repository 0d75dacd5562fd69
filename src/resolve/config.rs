//! What a `cache`, an `errors`, a `k8s_external` and a `transfer` directive say.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cluster::config::{Fallthrough, primary_zone};
use crate::wire::{Name, NameRef};

/// Longest that a failure is kept that comes back each time: default, and what `servfail` may ask
/// for (RFC 9520 §3.2: at most 5 minutes).
pub const SERVFAIL_DEFAULT: Duration = Duration::from_secs(30);
/// See [`SERVFAIL_DEFAULT`].
pub const SERVFAIL_MAX: Duration = Duration::from_secs(300);
/// Longest TTL of a denial, in seconds: by default, and whatever `denial` asks for. What is denied
/// may exist a moment later, and RFC 2308 §5 finds one to three hours sensible at most.
pub const DENIAL_TTL_DEFAULT_S: u32 = 60;
/// See [`DENIAL_TTL_DEFAULT_S`].
pub const DENIAL_TTL_MAX_S: u32 = 3 * 3600;
/// How what has expired is served without a word in the Corefile (RFC 8767 §5).
pub const STALE_DEFAULT: Stale = Stale {
    keep: Duration::from_secs(24 * 3600),
    refresh: Refresh::Verify(Duration::from_millis(1800)),
    ttl_s: 30,
    recheck: Duration::from_secs(30),
};

/// Most octets that one cache may take, whatever its directive says.
static CACHE_BYTES_MAX: AtomicU64 = AtomicU64::new(u64::MAX);

/// Bounds each cache that is made from here on, in octets: the directives say how many Entries are
/// wanted, the host how many there is room for. To be called before the first Plan is compiled.
pub fn set_cache_bytes_max(bytes: u64) {
    CACHE_BYTES_MAX.store(bytes, Ordering::Relaxed);
}

/// See [`set_cache_bytes_max`].
pub fn cache_bytes_max() -> u64 {
    CACHE_BYTES_MAX.load(Ordering::Relaxed)
}

/// One `cache` directive. Equal Configs keep their Entries across a reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheConfig {
    /// Names at or below are cached; empty means the zones of the block.
    pub zones: Vec<Name>,
    pub success: Keep,
    pub denial: Keep,
    /// Longest that a failure is kept: a second first, and twice as long each time it comes back;
    /// zero turns it off.
    pub servfail: Duration,
    /// Positive Answers at or below these names are not kept.
    pub disable_success: Vec<Name>,
    /// Negative Answers at or below these names are not kept.
    pub disable_denial: Vec<Name>,
    /// Send the TTL of the upstream instead of counting down.
    pub keep_ttl: bool,
    pub serve_stale: Option<Stale>,
    pub prefetch: Option<Prefetch>,
}

/// Bounds of one kind of Entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// Entries. Default 9984 (as CoreDNS).
    pub capacity: u64,
    /// Longest TTL, in seconds. Default 3600 for positive, 60 for negative Answers.
    pub ttl_max_s: u32,
    /// Shortest TTL, in seconds. Default 5.
    pub ttl_min_s: u32,
}

/// How expired positive Entries are served (`serve_stale`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stale {
    /// How long after its expiry. Default 24 hours.
    pub keep: Duration,
    pub refresh: Refresh,
    /// The TTL that is sent, in seconds. Default 30.
    pub ttl_s: u32,
    /// How long it is served at once after a refresh failed. Default 30 s.
    pub recheck: Duration,
}

/// When an expired Entry is refreshed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresh {
    /// Serve it at once and refresh behind.
    Immediate,
    /// Ask first, serve the expired Entry when that fails or takes longer than this (zero: no
    /// limit).
    Verify(Duration),
}

/// Refreshes popular Entries before they expire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefetch {
    /// Hits without a gap of `window` that make an Entry popular.
    pub amount: u32,
    /// Default 1 minute.
    pub window: Duration,
    /// Refresh when less than this part of the TTL is left, in percent, 10 to 90. Default 10.
    pub percentage: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let keep = |ttl_max_s| Keep { capacity: 9984, ttl_max_s, ttl_min_s: 5 };
        Self {
            zones: Vec::new(),
            success: keep(3600),
            denial: keep(DENIAL_TTL_DEFAULT_S),
            servfail: SERVFAIL_DEFAULT,
            disable_success: Vec::new(),
            disable_denial: Vec::new(),
            keep_ttl: false,
            serve_stale: Some(STALE_DEFAULT),
            prefetch: None,
        }
    }
}

/// One `transfer` directive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferConfig {
    /// Zones at or below are transferred.
    pub zones: Vec<Name>,
    /// Whether every address may ask (`*`).
    pub to_anybody: bool,
    /// Whose addresses may ask, and where NOTIFY goes.
    pub to: Vec<SocketAddr>,
    /// The address that NOTIFY comes from; without it the host chooses.
    pub source: Option<IpAddr>,
}

impl TransferConfig {
    /// The directive of a block that is for this zone, by its number: the one with the longest zone
    /// above it, and of two that are equal the first, as in CoreDNS. It says who may ask, and who
    /// is told.
    pub fn covering<'c>(
        all: impl IntoIterator<Item = &'c Self>,
        zone: NameRef<'_>,
    ) -> Option<usize> {
        let mut best = None;
        for (number, config) in all.into_iter().enumerate() {
            let length = config.covers(zone);
            if length > best.map(|(length, _)| length) {
                best = length.map(|length| (length, number));
            }
        }
        best.map(|(_, number)| number)
    }

    /// The length of its longest zone above this one.
    fn covers(&self, zone: NameRef<'_>) -> Option<usize> {
        let zones = self.zones.iter().filter(|own| zone.is_within(own.as_ref()));
        zones.map(|own| own.octets().len()).max()
    }
}

/// One `errors` directive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ErrorsConfig {
    pub consolidate: Vec<Consolidate>,
}

/// Errors that match are counted and told once per period (`consolidate`).
#[derive(Clone, Debug)]
pub struct Consolidate {
    pub period: Duration,
    pub pattern: regex::Regex,
    pub level: tracing::Level,
    /// Also tell the first one at once.
    pub show_first: bool,
}

/// A pattern is what is written of it.
impl PartialEq for Consolidate {
    fn eq(&self, other: &Self) -> bool {
        let all = |it: &Self| (it.period, it.level, it.show_first);
        all(self) == all(other) && self.pattern.as_str() == other.pattern.as_str()
    }
}

impl Eq for Consolidate {}

/// One `k8s_external` directive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalConfig {
    /// The zones that it serves, forward and reverse; at least one is not a reverse zone.
    pub zones: Vec<Name>,
    /// The label below which the server itself is, with its length octet. Default `dns`.
    pub apex: Box<[u8]>,
    /// TTL of all records, in seconds.
    pub ttl_s: u32,
    /// Whether endpoints have names, and headless Services their addresses.
    pub headless: bool,
    pub fallthrough: Fallthrough,
}

impl ExternalConfig {
    /// The zone of PTR targets: the first that is not a reverse zone.
    pub fn primary_zone(&self) -> &Name {
        primary_zone(&self.zones)
    }
}
