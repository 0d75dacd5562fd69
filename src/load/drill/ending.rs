//! Replicas that were told to end. They go on beside the next steps, as Pods that terminate do: no
//! controller counts them and no endpoint leads to them, but their processes are there.
//!
//! ```text
//! SIGTERM ─► its end, or the end of GRACE ─► SIGKILL ─► its end, or KILLED_MAX ─► told of
//! ```
//!
//! There are never more than a balancer has servers over time
//! ([`BACKENDS_MAX`](crate::load::fault::balancer::BACKENDS_MAX)).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::replica::Replica;

/// From SIGTERM to SIGKILL (`terminationGracePeriodSeconds`, default 30).
const GRACE: Duration = Duration::from_secs(30);
/// Longest wait for the end of what was killed.
const KILLED_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The step that a replica ends of, as its fault was noted: when, and what.
pub type Cause = (Duration, String);

/// What an end needs of a process. Dropping it kills what is left.
pub trait Process: Send + Sync + 'static {
    /// How people know it.
    fn name(&self) -> String;
    /// SIGTERM, and no new start.
    fn term(&self);
    /// SIGKILL.
    fn kill(&self);
    /// Whether nothing of it runs.
    fn has_ended(&self) -> bool;
}

/// Those that have not ended yet, and what is to be said of the others. Dropping it kills them.
#[derive(Default)]
pub struct Endings(JoinSet<Option<(Cause, String)>>);

impl Endings {
    /// Tells a process to end, and does not wait for it.
    pub fn begin(&mut self, process: impl Process, cause: Cause) {
        process.term();
        let late = async move { end(process).await.map(|why| (cause, why)) };
        self.0.spawn(late);
    }

    /// Waits for all ends, at most [`GRACE`] and [`KILLED_MAX`] from the last begin on. Answers
    /// which ones did not come on their own, by the step that they were to come of.
    pub async fn wait(&mut self) -> BTreeMap<Cause, Vec<String>> {
        let mut late = BTreeMap::<_, Vec<_>>::new();
        while let Some(ended) = self.0.join_next().await {
            // There is nothing in it that panics.
            if let Ok(Some((cause, why))) = ended {
                late.entry(cause).or_default().push(why);
            }
        }
        late
    }
}

/// The end of one that was told to. Answers what is to be said of it.
async fn end(process: impl Process) -> Option<String> {
    timeout(GRACE, ended(&process)).await.err()?;
    process.kill();
    let name = process.name();
    Some(match timeout(KILLED_MAX, ended(&process)).await {
        Ok(()) => format!("{name} was killed: it had not ended {GRACE:?} after SIGTERM"),
        Err(_) => format!("{name} is still there {KILLED_MAX:?} after SIGKILL"),
    })
}

async fn ended(process: &impl Process) {
    while !process.has_ended() {
        sleep(LOOK_EVERY).await;
    }
}

impl Process for Replica {
    fn name(&self) -> String {
        format!("the replica on {}", self.address)
    }

    fn term(&self) {
        // One that has ended already needs no signal.
        let _ = self.server.retire();
    }

    fn kill(&self) {
        // It may have ended at this moment.
        let _ = self.server.kill9();
    }

    fn has_ended(&self) -> bool {
        self.server.pid().is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    /// A process that ends so long after a signal, or never.
    struct Scripted {
        name: &'static str,
        after_term: Option<Duration>,
        after_kill: Option<Duration>,
        ends_at: Mutex<Option<Instant>>,
        /// The signals that all processes of a test got, and their ends by us.
        log: Arc<Mutex<Vec<String>>>,
    }

    impl Scripted {
        fn hear(&self, signal: &str, after: Option<Duration>) {
            self.log.lock().push(format!("{} {signal}", self.name));
            let ends_at = after.map(|after| Instant::now() + after);
            let mut known = self.ends_at.lock();
            *known = known.or(ends_at);
        }
    }

    impl Process for Scripted {
        fn name(&self) -> String {
            self.name.to_owned()
        }

        fn term(&self) {
            self.hear("term", self.after_term);
        }

        fn kill(&self) {
            self.hear("kill", self.after_kill);
        }

        fn has_ended(&self) -> bool {
            self.ends_at.lock().is_some_and(|at| Instant::now() >= at)
        }
    }

    impl Drop for Scripted {
        fn drop(&mut self) {
            self.log.lock().push(format!("{} let go", self.name));
        }
    }

    /// Endings of a test, and what their processes heard.
    #[derive(Default)]
    struct Scene {
        endings: Endings,
        log: Arc<Mutex<Vec<String>>>,
    }

    impl Scene {
        fn begin(&mut self, name: &'static str, seconds: [Option<u64>; 2], cause: &str) {
            let [after_term, after_kill] = seconds.map(|it| it.map(Duration::from_secs));
            let (ends_at, log) = (Mutex::default(), Arc::clone(&self.log));
            let process = Scripted { name, after_term, after_kill, ends_at, log };
            self.endings.begin(process, (Duration::ZERO, cause.to_owned()));
        }

        fn heard(&self) -> Vec<String> {
            self.log.lock().clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_begin_waits_for_nobody_and_the_wait_for_the_slowest() {
        let begun = Instant::now();
        let mut scene = Scene::default();
        scene.begin("a", [Some(20), None], "scale 0");
        scene.begin("b", [Some(3), None], "scale 0");
        assert_eq!(
            (scene.heard(), begun.elapsed()),
            (vec!["a term".to_owned(), "b term".to_owned()], Duration::ZERO)
        );
        assert!(scene.endings.wait().await.is_empty());
        assert_eq!(scene.heard()[2..], ["b let go", "a let go"]);
        assert_eq!(begun.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn they_end_while_nobody_waits_for_them() {
        let mut scene = Scene::default();
        scene.begin("a", [Some(3), None], "roll");
        sleep(Duration::from_secs(4)).await;
        assert_eq!(scene.heard(), ["a term", "a let go"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_not_ended_after_the_grace_is_killed_and_told_by_its_step() {
        let begun = Instant::now();
        let mut scene = Scene::default();
        scene.begin("deaf", [None, Some(1)], "scale 0");
        scene.begin("late", [Some(31), Some(0)], "roll");
        scene.begin("stone", [None, None], "scale 0");
        let late = scene.endings.wait().await;
        assert_eq!(begun.elapsed().as_secs(), (GRACE + KILLED_MAX).as_secs());
        let told = |step: &str| late[&(Duration::ZERO, step.to_owned())].join(", ");
        assert_eq!(
            told("scale 0"),
            "deaf was killed: it had not ended 30s after SIGTERM, \
             stone is still there 5s after SIGKILL"
        );
        assert_eq!(told("roll"), "late was killed: it had not ended 30s after SIGTERM");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_them_where_nobody_waits() {
        let mut scene = Scene::default();
        scene.begin("a", [None, None], "scale 0");
        drop(scene.endings);
        tokio::task::yield_now().await;
        assert_eq!(*scene.log.lock(), ["a term", "a let go"]);
    }
}
