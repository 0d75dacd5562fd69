//! How much memory there is, what may fill it, and what gives way before it is full.
//!
//! ```text
//! limit       smallest of: cgroup, those above it (v2 and v1), the machine
//! at start    cache ≤ 1/8 each, errands and connections as many as fit into a share
//! each second the limit anew, for it may be changed in place
//!             use > 80 % of the limit ─► caches give back half, few errands for upstreams
//!             use < 75 %              ─► as before
//! ```
//!
//! Names of the cluster are answered from the Zone, which needs no memory to be asked, so nothing
//! here changes what they get.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::listen::{Exchange, Places};
use crate::resolve::cache::Cache;
use crate::resolve::step::Step;

/// Below this a busy server may not hold what its bounds allow, in octets.
const LIMIT_MIN: u64 = 64 << 20;
/// The part of the limit that one cache may take.
const CACHE_SHARE: u64 = 8;
/// The part of the limit that errands for upstreams may take, that for the cluster, and that TCP
/// connections may take.
const UPSTREAM_SHARE: u64 = 8;
const CLUSTER_SHARE: u64 = 16;
const CONNECTIONS_SHARE: u64 = 8;
/// What one errand takes with its Flight, in octets: 86 MiB for 8 192 of them (2026-11).
const ERRAND_BYTES: u64 = 10 << 10;
/// What one TCP connection takes with what it has read and not yet written, in octets.
const CONNECTION_BYTES: u64 = 32 << 10;
/// Fewest places of each kind, however little memory there is.
const PLACES_MIN: usize = 128;
/// Use from which on caches give way, in percent of the limit, and below which all is as before.
/// Our own promise is 90 %; what is between them is for a second of the worst flood.
const SHORT_PERCENT: u64 = 80;
const ENOUGH_PERCENT: u64 = 75;
/// A cache that holds no more than this part of the limit is not what fills it.
const CACHE_FLOOR_SHARE: u64 = 64;
/// How often the use is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often shortness is told, at most, in looks.
const TELL_EVERY: u64 = 60;

/// The memory that we may use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limit {
    /// Octets; 0 when nobody says how many.
    pub bytes: u64,
    /// Where our own use stands, when our own cgroup sets the limit.
    group: Option<Group>,
}

/// A cgroup's own account.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    /// Octets in use, with files that were read.
    usage: PathBuf,
    /// How many of them are files that can go at once, by name of the line.
    stat: PathBuf,
    inactive: &'static str,
}

/// One hierarchy of cgroups: where it is mounted and what its files are called.
struct Version {
    root: &'static str,
    /// The bound, and the one from which on the kernel slows us down, which is as good as one.
    limits: &'static [&'static str],
    usage: &'static str,
    inactive: &'static str,
}

const V1: Version = Version {
    root: "/sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
};
const V2: Version = Version {
    root: "/sys/fs/cgroup",
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    inactive: "inactive_file",
};

impl Limit {
    /// The limit of this process.
    pub fn find() -> Self {
        Self::read(|path| std::fs::read_to_string(path).ok())
    }

    /// The same later on; `None` when a file could not be read for now, such as for want of open
    /// files: then there are seemingly fewer limits than there are.
    fn find_again() -> Option<Self> {
        let has_failed = Cell::new(false);
        let found = Self::read(|path| {
            let text = std::fs::read_to_string(path);
            has_failed.set(has_failed.get() || text.as_ref().is_err_and(is_for_now));
            text.ok()
        });
        (!has_failed.get()).then_some(found)
    }

    /// The smallest limit that `read` knows of.
    fn read(read: impl Fn(&Path) -> Option<String>) -> Self {
        let machine = read(Path::new("/proc/meminfo")).as_deref().and_then(mem_total);
        let mut smallest = Self { bytes: machine.unwrap_or(0), group: None };
        for line in read(Path::new("/proc/self/cgroup")).unwrap_or_default().lines() {
            let Some((version, own)) = own_group(line) else { continue };
            // Inside of a container the path may be that of the host, where only the root of what
            // is mounted exists; and a group never has more than those above it.
            let start = Path::new(version.root).join(own.trim_start_matches('/'));
            let above = start.ancestors().take_while(|folder| folder.starts_with(version.root));
            let mut is_own = true;
            for folder in above {
                let texts: Vec<String> =
                    version.limits.iter().filter_map(|name| read(&folder.join(name))).collect();
                if texts.is_empty() {
                    continue;
                }
                let limits = texts.iter().filter_map(|text| text.trim().parse().ok());
                let limit = limits.filter(|bytes| *bytes > 0).min();
                if limit.is_some_and(|bytes| smallest.bytes == 0 || bytes < smallest.bytes) {
                    let group = is_own.then(|| Group::of(version, folder));
                    smallest = Self { bytes: limit.unwrap_or(0), group };
                }
                // The first folder that exists is ours; what others use there is their matter.
                is_own = false;
            }
        }
        smallest
    }

    /// Places that fit into the limit.
    pub fn places(&self) -> Places {
        let most = Places::default();
        if self.bytes == 0 {
            return most;
        }
        let fit = |share: u64, each: u64, most: usize| {
            let fit = usize::try_from(self.bytes / share / each).unwrap_or(most);
            fit.clamp(PLACES_MIN, most)
        };
        Places {
            upstream: fit(UPSTREAM_SHARE, ERRAND_BYTES, most.upstream),
            cluster: fit(CLUSTER_SHARE, ERRAND_BYTES, most.cluster),
            connections: fit(CONNECTIONS_SHARE, CONNECTION_BYTES, most.connections),
        }
    }

    /// Octets that one cache may take.
    pub fn cache_bytes(&self) -> u64 {
        if self.bytes == 0 { u64::MAX } else { self.bytes / CACHE_SHARE }
    }

    /// Warns when there is little.
    pub fn tell(&self) {
        if (1..LIMIT_MIN).contains(&self.bytes) {
            let (mib, least) = (self.bytes >> 20, LIMIT_MIN >> 20);
            tracing::warn!(
                "only {mib} MiB of memory are allowed; raise the limit to {least} MiB or more"
            );
        }
    }

    /// Octets in use: ours, or what our cgroup is charged with beside (buffers of sockets, a
    /// parent), without files that can go at once. `None` when that cannot be read.
    fn used(&self, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
        let own = resident(&read(Path::new("/proc/self/status"))?)?;
        let Some(group) = &self.group else { return Some(own) };
        let usage: u64 = read(&group.usage)?.trim().parse().ok()?;
        let charged = usage.saturating_sub(inactive(&read(&group.stat)?, group.inactive));
        Some(own.max(charged))
    }
}

/// Whether a file that cannot be read may be readable another time.
fn is_for_now(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

impl Group {
    fn of(version: &Version, folder: &Path) -> Self {
        let [usage, stat] = [version.usage, "memory.stat"].map(|name| folder.join(name));
        Self { usage, stat, inactive: version.inactive }
    }
}

/// Our group by a line of `/proc/self/cgroup`: `0::/a/b` or `4:memory:/a/b`.
fn own_group(line: &str) -> Option<(&'static Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if controllers.split(',').any(|name| name == "memory") {
        return Some((&V1, path));
    }
    (number == "0" && controllers.is_empty()).then_some((&V2, path))
}

/// The machine's memory by `/proc/meminfo`, in octets.
fn mem_total(text: &str) -> Option<u64> {
    kib(text, "MemTotal:")
}

/// What is resident of us, by `/proc/self/status`, in octets.
fn resident(text: &str) -> Option<u64> {
    kib(text, "VmRSS:")
}

fn kib(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Octets of files that can go at once, by a group's `memory.stat`.
fn inactive(text: &str, field: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(field)?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

/// What the watch over memory has seen and done.
#[derive(Default)]
pub struct Memory {
    limit: ArcSwap<Limit>,
    pub used_bytes: AtomicU64,
    pub is_short: AtomicBool,
    /// How often caches were asked to give way.
    pub shrinks: AtomicU64,
}

impl Memory {
    /// Nothing seen yet.
    pub fn new(limit: Limit) -> Arc<Self> {
        Arc::new(Self { limit: ArcSwap::from_pointee(limit), ..Self::default() })
    }

    /// The limit in octets; 0 when nobody says one.
    pub fn limit_bytes(&self) -> u64 {
        self.limit.load().bytes
    }

    /// Looks at the use each second, as long as there is an Exchange. On a thread of its own, since
    /// what fills the memory may fill the runtime too.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn watch(self: &Arc<Self>, exchange: &Arc<Exchange>) -> std::io::Result<()> {
        let (memory, exchange) = (self.clone(), Arc::downgrade(exchange));
        // Nobody waits for its end: it holds nothing, and ends soon after the Exchange.
        std::thread::Builder::new().name("memory".into()).spawn(move || memory.run(&exchange))?;
        Ok(())
    }

    fn run(&self, exchange: &Weak<Exchange>) {
        let mut since_told = TELL_EVERY;
        loop {
            std::thread::sleep(LOOK_EVERY);
            let Some(exchange) = exchange.upgrade() else { return };
            if let Some(limit) = Limit::find_again() {
                self.limit.store(Arc::new(limit));
            }
            self.look(&exchange, |path| std::fs::read_to_string(path).ok());
            since_told = since_told.saturating_add(1);
            if self.is_short.load(Ordering::Relaxed) && since_told > TELL_EVERY {
                self.tell();
                since_told = 0;
            }
        }
    }

    /// Judges the use, and has others give way.
    fn look(&self, exchange: &Exchange, read: impl Fn(&Path) -> Option<String>) {
        let is_short = self.judge(read);
        exchange.errands.set_memory_short(is_short);
        if is_short {
            let floor = self.limit_bytes() / CACHE_FLOOR_SHARE;
            let shrunk = caches(exchange).filter(|cache| cache.shrink(floor)).count();
            self.shrinks.fetch_add(shrunk as u64, Ordering::Relaxed);
        }
    }

    /// Whether memory is short. Where the use cannot be read, all is as it was at the last look.
    fn judge(&self, read: impl Fn(&Path) -> Option<String>) -> bool {
        let was_short = self.is_short.load(Ordering::Relaxed);
        let limit = self.limit.load();
        let Some(used) = limit.used(read) else { return was_short };
        self.used_bytes.store(used, Ordering::Relaxed);
        let is_short = is_short(used, limit.bytes, was_short);
        self.is_short.store(is_short, Ordering::Relaxed);
        is_short
    }

    fn tell(&self) {
        let (used, limit) =
            (self.used_bytes.load(Ordering::Relaxed) >> 20, self.limit_bytes() >> 20);
        tracing::warn!(
            "memory is short: {used} of {limit} MiB are in use; caches shrink and fewer foreign \
             names are asked for at once; raise the limit"
        );
    }
}

/// The caches of the Plan that answers, each once.
fn caches(exchange: &Exchange) -> impl Iterator<Item = Arc<Cache>> {
    let mut caches: Vec<Arc<Cache>> = Vec::new();
    for zoned in exchange.plan.load().zones() {
        for step in &zoned.block.steps {
            let Step::Cache(cache) = step else { continue };
            if !caches.iter().any(|known| Arc::ptr_eq(known, cache)) {
                caches.push(cache.clone());
            }
        }
    }
    caches.into_iter()
}

/// Whether so much use is too much; where it was, it is until there is clearly enough again.
fn is_short(used: u64, limit: u64, was_short: bool) -> bool {
    let percent = if was_short { ENOUGH_PERCENT } else { SHORT_PERCENT };
    limit > 0 && used > limit / 100 * percent
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The limit where these files are.
    fn limit(files: &[(&str, &str)]) -> Limit {
        Limit::read(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:       24000000 kB\nMemFree: 1 kB\n");

    #[test]
    fn p14_the_smallest_limit_of_a_group_and_those_above_it_counts() {
        let nested = limit(&[
            MACHINE,
            ("/proc/self/cgroup", "0::/pod/server\n"),
            ("/sys/fs/cgroup/pod/server/memory.max", "max\n"),
            ("/sys/fs/cgroup/pod/memory.max", "178257920\n"),
        ]);
        assert_eq!((nested.bytes, nested.group), (170 * MIB, None), "others are in it too");
        let own = limit(&[
            MACHINE,
            ("/proc/self/cgroup", "0::/pod/server\n"),
            ("/sys/fs/cgroup/pod/server/memory.max", "134217728\n"),
            ("/sys/fs/cgroup/pod/memory.max", "178257920\n"),
        ]);
        assert_eq!(own.bytes, 128 * MIB);
        let usage = Path::new("/sys/fs/cgroup/pod/server/memory.current");
        assert_eq!(own.group.map(|group| group.usage), Some(usage.to_owned()));
    }

    #[test]
    fn p14_a_group_of_version_1_is_found_by_its_path_or_at_the_root_of_a_container() {
        let host = "9:cpu,memory:/kubepods/a\n0::/\n";
        let by_path = limit(&[
            MACHINE,
            ("/proc/self/cgroup", host),
            ("/sys/fs/cgroup/memory/kubepods/a/memory.limit_in_bytes", "134217728\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(by_path.bytes, 128 * MIB);
        let container = limit(&[
            MACHINE,
            ("/proc/self/cgroup", host),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
        ]);
        assert_eq!(container.bytes, 128 * MIB);
        assert!(container.group.is_some(), "it is the container's own");
    }

    #[test]
    fn without_a_limit_the_machine_is_one_and_without_words_there_is_none() {
        let unlimited = [
            MACHINE,
            ("/proc/self/cgroup", "4:memory:/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(limit(&unlimited).bytes, 24_000_000 * 1024);
        let odd = [("/proc/meminfo", "MemTotal: x kB"), ("/proc/self/cgroup", "a\n0:\n::\n0::\n")];
        for files in [&odd[..], &[]] {
            let none = limit(files);
            assert_eq!(none, Limit::default());
            assert_eq!((none.places(), none.cache_bytes()), (Places::default(), u64::MAX));
        }
    }

    #[test]
    fn p3_what_may_wait_fits_into_a_small_limit() {
        for mib in [32, 64, 128, 170, 512, 4096] {
            let limit = Limit { bytes: mib * MIB, group: None };
            let Places { upstream, cluster, connections } = limit.places();
            let errands = (upstream + cluster) as u64 * ERRAND_BYTES;
            let all = errands + connections as u64 * CONNECTION_BYTES + limit.cache_bytes();
            assert!(all <= limit.bytes / 2, "{mib} MiB: {all}");
        }
        let plenty = Limit { bytes: 1 << 34, group: None };
        assert_eq!(plenty.places(), Places::default());
    }

    #[test]
    fn p14_memory_is_short_above_80_percent_and_until_it_is_below_75() {
        let cases = [(81, false, true), (80, false, false), (76, true, true), (75, true, false)];
        for (used, was_short, expected) in cases {
            assert_eq!(is_short(used * MIB, 100 * MIB, was_short), expected, "{used} {was_short}");
        }
        assert!(!is_short(u64::MAX, 0, false), "nobody said a limit");
    }

    #[test]
    fn p14_the_bound_from_which_on_the_kernel_slows_us_down_is_one_too() {
        let of = |high: &str| {
            let high = ("/sys/fs/cgroup/memory.high", high);
            let max = ("/sys/fs/cgroup/memory.max", "178257920\n");
            limit(&[MACHINE, ("/proc/self/cgroup", "0::/\n"), max, high])
        };
        assert_eq!(of("134217728\n").bytes, 128 * MIB);
        assert_eq!(of("max\n").bytes, 170 * MIB);
    }

    #[test]
    fn p14_memory_whose_use_cannot_be_read_is_as_short_as_before() {
        let own = limit(&[
            MACHINE,
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "134217728\n"),
        ]);
        let memory = Memory::new(own);
        let status = ("/proc/self/status", "VmRSS: 1024 kB\n");
        let stat = ("/sys/fs/cgroup/memory.stat", "inactive_file 0\n");
        let usage = ("/sys/fs/cgroup/memory.current", "125829120\n");
        let judge = |files: &[(&str, &str)]| {
            memory.judge(|path| {
                let file = files.iter().find(|(name, _)| Path::new(name) == path);
                file.map(|(_, text)| (*text).to_owned())
            })
        };
        assert!(!judge(&[]), "nothing is known yet");
        assert!(judge(&[status, stat, usage]), "120 of 128 MiB are in use");
        for files in [&[][..], &[status], &[status, usage], &[stat, usage]] {
            assert!(judge(files), "{files:?}");
        }
        let less = ("/sys/fs/cgroup/memory.current", "1048576\n");
        assert!(!judge(&[status, stat, less]));
    }

    #[test]
    fn what_is_not_there_is_no_failure_and_want_of_files_is_one() {
        let of = |code| is_for_now(&io::Error::from_raw_os_error(code));
        let [no_entry, denied, too_many] = [2, 13, 24];
        assert!(!of(no_entry) && !of(denied) && of(too_many));
    }

    #[test]
    fn accounts_are_read_in_their_units() {
        assert_eq!(resident("Name: x\nVmRSS:\t    2048 kB\n"), Some(2 * MIB));
        assert_eq!(resident("VmRSS:\n"), None);
        let stat = "inactive_anon 1\ninactive_file 4096\ntotal_inactive_file 8192\n";
        assert_eq!((inactive(stat, V2.inactive), inactive(stat, V1.inactive)), (4096, 8192));
        assert_eq!(inactive("", V2.inactive), 0);
    }
}
