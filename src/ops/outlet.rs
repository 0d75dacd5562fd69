//! Lines on their way to standard output, through one thread of their own.
//!
//! A standard output that nobody reads (a stalled container runtime, a full pipe) blocks whoever
//! writes to it, and that must not be a worker. So a room only appends to a buffer, which is
//! bounded in octets; what does not fit is lost, counted, and told once there is room again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;

use super::Error;

/// Octets that wait for standard output: some thousand lines.
const BUFFER_OCTETS_MAX: usize = 1024 * 1024;
/// How long the end of the process waits for the last lines.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// The way in, for any number of threads.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    shared: Arc<Shared>,
}

/// What writers and the thread share.
#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    has_lines: Condvar,
    is_drained: Condvar,
    lost: Counter,
}

/// Complete lines that the thread has not taken.
#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines lost since the last that was told.
    lost: u64,
    /// Whether the thread has taken lines and not written them yet.
    is_writing: bool,
}

impl Outlet {
    /// Starts the thread that writes to `sink`. Lost lines are counted in `lost`.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub(super) fn start(
        sink: impl io::Write + Send + 'static,
        lost: Counter,
    ) -> Result<Self, Error> {
        const NAME: &str = "log";
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            has_lines: Condvar::new(),
            is_drained: Condvar::new(),
            lost,
        });
        let own = Arc::clone(&shared);
        // Nobody joins it: it may be stuck in a write. Flush waits for its work instead.
        std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || own.write_for_ever(sink))
            .map_err(|source| Error::Thread { name: NAME, source })?;
        Ok(Self { shared })
    }

    /// The guard that waits for the last lines.
    pub(super) fn flush_at_end(&self) -> Flush {
        Flush { outlet: self.clone() }
    }

    /// Appends one line, or counts it as lost. Never blocks on standard output.
    fn push(&self, line: &[u8]) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.lines.len() + line.len() > BUFFER_OCTETS_MAX {
            waiting.lost += 1;
            self.shared.lost.inc();
            return;
        }
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        self.shared.has_lines.notify_one();
    }
}

impl io::Write for Outlet {
    /// Takes `line` whole; the formatter hands over one complete line per call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// The life of the thread.
    fn write_for_ever(&self, mut sink: impl io::Write) {
        let mut batch = Vec::new();
        loop {
            self.take(&mut batch);
            if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
                // Nobody is left to tell; the counter is all that remains.
                self.lost.inc_by(batch.iter().filter(|octet| **octet == b'\n').count() as u64);
            }
            batch.clear();
            self.waiting.lock().is_writing = false;
            self.is_drained.notify_all();
        }
    }

    /// Waits for lines and moves all of them to `batch`, with a word about those that were lost.
    fn take(&self, batch: &mut Vec<u8>) {
        let mut waiting = self.waiting.lock();
        while waiting.lines.is_empty() {
            self.has_lines.wait(&mut waiting);
        }
        std::mem::swap(&mut waiting.lines, batch);
        waiting.is_writing = true;
        let lost = std::mem::take(&mut waiting.lost);
        if lost > 0 {
            let text = format!("[WARNING] standard output was slow: {lost} log lines lost\n");
            batch.extend_from_slice(text.as_bytes());
        }
    }
}

/// Dropped at the end of the process, waits up to a second until all lines are written.
#[derive(Debug)]
#[must_use = "the last lines are lost when it is dropped early"]
pub struct Flush {
    outlet: Outlet,
}

impl Drop for Flush {
    fn drop(&mut self) {
        let deadline = Instant::now() + FLUSH_TIME_MAX;
        let shared = &self.outlet.shared;
        let mut waiting = shared.waiting.lock();
        while waiting.is_writing || !waiting.lines.is_empty() {
            if shared.is_drained.wait_until(&mut waiting, deadline).timed_out() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A sink that accepts one write per permit and hands over what it got.
    struct Gate {
        permits: Receiver<()>,
        written: SyncSender<Vec<u8>>,
    }

    impl io::Write for Gate {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written.send(octets.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(lost: Counter) -> (Outlet, SyncSender<()>, Receiver<Vec<u8>>) {
        let (permit, permits) = sync_channel(8);
        let (written, writes) = sync_channel(8);
        (Outlet::start(Gate { permits, written }, lost).unwrap(), permit, writes)
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (mut outlet, permit, writes) = gated(Counter::default());
        outlet.write_all(b"first\n").unwrap();
        permit.send(()).unwrap();
        assert_eq!(writes.recv().unwrap(), b"first\n");
        outlet.write_all(b"second\n").unwrap();
        permit.send(()).unwrap();
        assert_eq!(writes.recv().unwrap(), b"second\n");
        drop(outlet.flush_at_end());
    }

    #[test]
    fn stalled_output_blocks_nobody_and_the_loss_is_counted_and_told() {
        let lost = Counter::default();
        let (mut outlet, permit, writes) = gated(lost.clone());
        let line = vec![b'x'; BUFFER_OCTETS_MAX / 4];
        // One batch may be with the thread already; eight lines are more than both hold.
        for _ in 0..12 {
            outlet.write_all(&line).unwrap();
        }
        let counted = lost.get();
        assert!((4..=8).contains(&counted), "{counted}");
        let mut all = Vec::new();
        for _ in 0..2 {
            permit.send(()).unwrap();
            all.extend(writes.recv().unwrap());
            if all.ends_with(b"lost\n") {
                break;
            }
        }
        let told = format!("[WARNING] standard output was slow: {counted} log lines lost\n");
        assert!(all.ends_with(told.as_bytes()));
    }

    #[test]
    fn closed_output_counts_its_lines_as_lost() {
        let lost = Counter::default();
        let (mut outlet, permit, _writes) = gated(lost.clone());
        drop(permit);
        outlet.write_all(b"into the void\n").unwrap();
        drop(outlet.flush_at_end());
        assert_eq!(lost.get(), 1);
    }
}
