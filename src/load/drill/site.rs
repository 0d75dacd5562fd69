//! Where a drill takes place: replicas, balancer, relays, the cluster, and what steps do to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::ending::{Cause, Endings};
use super::file::Drill;
use super::flood::Flood;
use super::objects;
use super::replica::{Replica, Setting, Subject};
use super::step::{Act, Illness, Step, Way};
use crate::cluster::pods::Hands;
use crate::load::Error;
use crate::load::fault::balancer::Balancer;
use crate::load::fault::relay::{ByteRelay, Impairment, Relay};
use crate::load::record::Recorder;
use crate::load::report::{FaultMark, Report};
use crate::load::run::Course;

/// Any port of loopback.
pub const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A drill's servers and what is around them.
pub struct Site {
    subject: Subject,
    setting: Setting,
    /// `None` for one that is gone.
    replicas: Vec<Option<Replica>>,
    /// Those that are no replicas any more, and still run.
    endings: Endings,
    balancer: Option<Balancer>,
    upstream: Relay,
    illness: Option<u64>,
    api: Option<ByteRelay>,
    hands: Option<Arc<Hands>>,
    churn: Option<JoinHandle<()>>,
    /// Changes that the API server did not make.
    refused_changes: Arc<AtomicU64>,
    flood: Option<Flood>,
}

impl Site {
    /// Starts the servers of a drill and waits until they are ready.
    ///
    /// # Errors
    /// A server that does not start, or a port that cannot be had.
    pub async fn open(
        drill: &Drill,
        subject: &Subject,
        setting: Setting,
        upstream: Relay,
        (api, hands): (Option<ByteRelay>, Option<Arc<Hands>>),
    ) -> Result<Self, Error> {
        let start = |_| Replica::start(subject, &setting).map(Some);
        let replicas = (0..drill.replicas).map(start).collect::<Result<Vec<_>, _>>()?;
        for replica in replicas.iter().flatten() {
            replica.ready().await?;
        }
        let addresses: Vec<_> = replicas.iter().flatten().map(|it| it.address).collect();
        let balancer = match drill.is_balanced() {
            false => None,
            true => Some(Balancer::start(ANY, &addresses, drill.lag, 1).await?),
        };
        let subject = subject.clone();
        let (illness, churn, flood) = (None, None, None);
        Ok(Self {
            subject,
            setting,
            replicas,
            endings: Endings::default(),
            balancer,
            upstream,
            illness,
            api,
            hands,
            churn,
            refused_changes: Arc::default(),
            flood,
        })
    }

    /// Where clients ask.
    pub fn address(&self) -> SocketAddr {
        match &self.balancer {
            Some(balancer) => balancer.listen(),
            None => self.replicas[0].as_ref().map_or(ANY, |replica| replica.address),
        }
    }

    /// Takes the steps, each at its time, until the last one is done or the run is stopped.
    pub async fn play(&mut self, steps: &[Step], course: &Course, recorder: &Recorder) {
        for (number, step) in steps.iter().enumerate() {
            tokio::select! {
                () = sleep_until(course.started + step.at) => {}
                () = course.stopped() => break,
            }
            let (at, what) = (course.elapsed(), step.to_string());
            let until = undone(&steps[number..]);
            // What only undoes an earlier step is the end of that one, and no fault of its own.
            if !step.act.undoes() {
                recorder.fault(&what, at, until);
            }
            if let Err(error) = self.take(&step.act, &(at, what.clone())).await {
                recorder.fault_failed(&what, at, &error.to_string());
            }
        }
        course.stopped().await;
        self.end_floods();
        let refused = self.refused_changes.load(Ordering::Relaxed);
        if refused > 0 {
            let why = format!("{refused} changes of EndpointSlices were refused");
            recorder.fault_failed("churn", course.elapsed(), &why);
        }
    }

    /// Waits for replicas that were told to end and have not yet; those that do not are told of
    /// with the step that they were to end of.
    pub async fn ended(&mut self, report: &mut Report) {
        for ((at, what), late) in self.endings.wait().await {
            let is_it =
                |fault: &&mut FaultMark| fault.what == what && fault.at_s == at.as_secs_f64();
            if let Some(fault) = report.faults.iter_mut().find(is_it) {
                fault.error.get_or_insert(late.join(", "));
            }
        }
    }

    /// What of the drill's own got lost on the way, which is not the server's fault.
    pub fn own_losses(&self) -> Vec<String> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut losses = Vec::new();
        if let Some(balancer) = &self.balancer {
            let counters = balancer.counters();
            let lost = load(&counters.table_full) + load(&counters.overrun);
            losses.extend((lost > 0).then(|| format!("the balancer lost {lost} packets itself")));
        }
        let counters = self.upstream.counters();
        let lost = load(&counters.delayed_full) + load(&counters.overrun);
        losses.extend((lost > 0).then(|| format!("the relay lost {lost} packets itself")));
        losses
    }

    /// Questions that the upstream got, and those that its illness took.
    pub fn upstream_questions(&self) -> (u64, u64) {
        let counters = self.upstream.counters();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let taken = [&counters.swallowed, &counters.lost, &counters.beyond_rate, &counters.delayed];
        (load(&counters.questions), taken.into_iter().map(load).sum())
    }

    async fn take(&mut self, act: &Act, cause: &Cause) -> Result<(), Error> {
        let wrong = |why: String| Error::Config(why);
        match *act {
            Act::Continue(n) => self.replica(n)?.server.cont(),
            Act::Upstream(illness) => self.ail(illness),
            Act::Flood(rate) => self.flood = Flood::start(self.address(), rate),
            Act::Kill(n) => self.replica(n)?.server.kill9().map_err(wrong)?,
            Act::Crash(n) => self.replica(n)?.server.crash().map_err(wrong)?,
            Act::Stop(n) => self.replica(n)?.server.stop().map_err(wrong)?,
            Act::Replace(n) => self.replica(n)?.server.restart().await.map_err(wrong)?,
            Act::Lose(n) => self.lose(n)?,
            Act::Remove(n) => self.forget(n)?,
            Act::Roll => self.roll(cause).await?,
            Act::Scale(count) => self.scale(count, cause).await?,
            Act::Api(way) => self.reach_api(way)?,
            Act::Corefile(kind) => {
                self.replicas.iter().flatten().try_for_each(|replica| replica.rewrite(kind))?
            }
            Act::Churn(rate) => self.churn(rate)?,
        }
        Ok(())
    }

    fn replica(&self, number: usize) -> Result<&Replica, Error> {
        let replica = self.replicas.get(number).and_then(Option::as_ref);
        replica.ok_or_else(|| Error::Config(format!("replica {number} is gone")))
    }

    /// The address of a lost replica is still known to the balancer.
    fn lose(&mut self, number: usize) -> Result<(), Error> {
        // A stopped process keeps its port and answers nothing, as a node without power does.
        let replica = self.replica(number)?;
        replica.server.stop().map_err(Error::Config)
    }

    fn forget(&self, number: usize) -> Result<(), Error> {
        let address = self.replica(number)?.address;
        if let Some(balancer) = &self.balancer {
            balancer.remove(address);
        }
        Ok(())
    }

    /// A new replica beside the old ones; when it is ready an old one goes, and the next new one
    /// starts: a Deployment does not count what terminates.
    async fn roll(&mut self, cause: &Cause) -> Result<(), Error> {
        for number in 0..self.replicas.len() {
            let replica = self.begin().await?;
            let old = self.replicas[number].replace(replica);
            self.end(old, cause);
        }
        Ok(())
    }

    /// As a ReplicaSet does: all that are too many go at once, or all that are missing start at
    /// once, whatever terminates meanwhile.
    async fn scale(&mut self, count: usize, cause: &Cause) -> Result<(), Error> {
        let gone = self.replicas.split_off(count.min(self.replicas.len()));
        gone.into_iter().for_each(|old| self.end(old, cause));
        let missing = (self.replicas.len()..count).map(|_| self.begin());
        let mut result = Ok(());
        // One that does not start takes no other with it.
        for begun in futures_util::future::join_all(missing).await {
            match begun {
                Ok(replica) => self.replicas.push(Some(replica)),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Starts a replica, and gives it flows when it is ready.
    async fn begin(&self) -> Result<Replica, Error> {
        let replica = Replica::start(&self.subject, &self.setting)?;
        replica.ready().await?;
        if let Some(balancer) = &self.balancer {
            balancer.add(replica.address).await?;
        }
        Ok(replica)
    }

    /// As Kubernetes deletes a Pod: its endpoint goes and SIGTERM comes at the same time. Its end
    /// comes when it comes.
    fn end(&mut self, replica: Option<Replica>, cause: &Cause) {
        let Some(replica) = replica else { return };
        if let Some(balancer) = &self.balancer {
            balancer.remove(replica.address);
        }
        self.endings.begin(replica, cause.clone());
    }

    fn reach_api(&self, way: Way) -> Result<(), Error> {
        let api = self.api.as_ref().ok_or_else(no_api)?;
        match way {
            Way::Down => api.down(),
            Way::Up => api.up(),
        }
        Ok(())
    }

    fn ail(&mut self, illness: Illness) {
        if let Some(number) = self.illness.take() {
            self.upstream.end(number);
        }
        self.illness = impairment(illness).map(|it| self.upstream.begin(it));
    }

    fn churn(&mut self, rate: u32) -> Result<(), Error> {
        if let Some(task) = self.churn.take() {
            task.abort();
        }
        let hands = Arc::clone(self.hands.as_ref().ok_or_else(no_api)?);
        if rate > 0 {
            let refused = Arc::clone(&self.refused_changes);
            self.churn = Some(tokio::spawn(churn(hands, rate, refused)));
        }
        Ok(())
    }

    fn end_floods(&mut self) {
        self.flood = None;
        if let Some(task) = self.churn.take() {
            task.abort();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.end_floods();
    }
}

fn no_api() -> Error {
    Error::Config("this step needs an API server; name one with --kubeconfig".to_owned())
}

/// When the first of these steps is undone by a later one.
fn undone(steps: &[Step]) -> Option<Duration> {
    let (first, later) = steps.split_first()?;
    later.iter().find(|step| step.act.ends(&first.act)).map(|step| step.at)
}

fn impairment(illness: Illness) -> Option<Impairment> {
    Some(match illness {
        Illness::Well => return None,
        Illness::Blackhole => Impairment::Blackhole,
        Illness::Delay(by) => Impairment::Delay(by),
        Illness::Loss(part) => Impairment::Loss(part),
        Illness::Servfail => Impairment::Servfail,
        Illness::Pps(rate) => Impairment::Pps(rate),
    })
}

/// Changes endpoints until it is aborted.
async fn churn(hands: Arc<Hands>, rate: u32, refused: Arc<AtomicU64>) {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for change in 0.. {
        ticks.tick().await;
        let (number, turn) = objects::churned(change);
        if let Err(refusal) = hands.apply(&objects::slice(number, turn)).await {
            tracing::warn!("an EndpointSlice was not changed: {refusal}");
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load::fault::balancer::Cleanup;
    use crate::load::fault::relay::{Between, To};
    use tokio::time::Instant;

    /// Writes `up` and its Corefile as it starts, and is deaf to SIGTERM. It is never ready.
    const DEAF: &str =
        r#"sh -c 'trap "" TERM; echo up >>"${0%/*}/log"; while :; do sleep 1; done'"#;

    /// A site with so many servers that are there, behind a balancer that keeps flows.
    async fn site(folder: &Path, count: usize) -> Site {
        let upstream = Relay::start(Between { listen: ANY, to: To::Stub }, 1).await.unwrap();
        let setting = Setting {
            folder: folder.to_owned(),
            source: String::new(),
            upstream: upstream.listen(),
            lameduck: Duration::ZERO,
            cgroup: None,
        };
        let (name, command) = ("deaf".to_owned(), format!("{DEAF} {{conf}}"));
        let subject = Subject { name, command, reads_manifests: true };
        let start = |_| Some(Replica::start(&subject, &setting).unwrap());
        let replicas: Vec<_> = (0..count).map(start).collect();
        let addresses: Vec<_> = replicas.iter().flatten().map(|it| it.address).collect();
        let balancer = Balancer::start(ANY, &addresses, Cleanup::Never, 1).await.unwrap();
        Site {
            subject,
            setting,
            replicas,
            endings: Endings::default(),
            balancer: Some(balancer),
            upstream,
            illness: None,
            api: None,
            hands: None,
            churn: None,
            refused_changes: Arc::default(),
            flood: None,
        }
    }

    fn pids(site: &Site) -> Vec<u32> {
        site.replicas.iter().flatten().filter_map(|it| it.server.pid()).collect()
    }

    fn is_there(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    /// Waits until so many servers have started.
    async fn started(folder: &Path, count: usize) {
        let log = folder.join("log");
        let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
        while lines() < count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn new_replicas_start_while_old_ones_still_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut site = site(folder.path(), 2).await;
        started(folder.path(), 2).await;
        let old = pids(&site);
        let steps = ["0s scale 0", "0s scale 2"].map(|line| Step::parse(line).unwrap());
        let course = Course::new(Instant::now(), None);
        let recorder = Recorder::new(course.clone(), Duration::from_secs(1));
        tokio::select! {
            () = site.play(&steps, &course, &recorder) => panic!("they are never ready"),
            () = started(folder.path(), 4) => {}
        }
        assert!(old.iter().all(|pid| is_there(*pid)), "the next step waited for their end");
    }

    #[tokio::test]
    async fn what_ends_is_no_replica_and_gets_no_new_flows() {
        let folder = tempfile::tempdir().unwrap();
        let mut site = site(folder.path(), 2).await;
        started(folder.path(), 2).await;
        let old = pids(&site);
        site.take(&Act::Scale(0), &(Duration::ZERO, String::new())).await.unwrap();
        assert!(old.iter().all(|pid| is_there(*pid)));
        assert!(site.replica(0).is_err_and(|error| error.to_string().contains("is gone")));
        let client = tokio::net::UdpSocket::bind(ANY).await.unwrap();
        client.send_to(&[0; 12], site.address()).await.unwrap();
        let nowhere = &site.balancer.as_ref().unwrap().counters().nowhere;
        while nowhere.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_told_with_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let mut site = site(folder.path(), 1).await;
        started(folder.path(), 1).await;
        let address = site.replicas[0].as_ref().unwrap().address.to_string();
        let fault = |what: &str| FaultMark { what: what.to_owned(), ..FaultMark::default() };
        let faults = vec![fault("kill 0@0s"), fault("scale 0@0s")];
        let mut report = Report { faults, ..Report::default() };
        let cause = (Duration::ZERO, "scale 0@0s".to_owned());
        site.take(&Act::Scale(0), &cause).await.unwrap();
        site.ended(&mut report).await;
        assert!(report.faults[0].error.is_none());
        assert!(report.faults[1].error.as_ref().unwrap().contains(&address));
    }
}
