//! Whether answers were true: at some instant from the question, less the bound of staleness, up to
//! the answer.
//!
//! It is the truth of `mainstay load`, which shares the reading of objects with the server and
//! nothing of how that makes answers; here it follows the port of the scripted API server where
//! nothing fails and nobody lies.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use mainstay::cluster::config::Source;
use mainstay::load::truth::{Case, Running, Said, Sought, Truth, Verdict};
use mainstay::wire::{Name, RecordType};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::fake_cluster::FakeCluster;
use crate::query;

/// Longest wait for the first lists.
const KNOWN_MAX: Duration = Duration::from_secs(60);
/// A question without a reply for so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Untrue answers that are told in full.
const TOLD_MAX: usize = 20;

/// Who knows what was true when.
pub struct Oracle {
    truth: Arc<Truth>,
    runtime: Runtime,
    _following: Running,
}

/// What came of many answers.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    pub ok: usize,
    pub stale: usize,
    pub wrong_negative: usize,
    pub wrong_positive: usize,
    pub lost: usize,
    pub not_judged: usize,
    /// The first untrue answers.
    pub told: Vec<String>,
}

impl Oracle {
    /// Follows a cluster; answers may be older than what is true by `staleness`, at most a minute.
    pub fn of(cluster: &FakeCluster, staleness: Duration) -> Self {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(1).enable_all().build().unwrap();
        let source = Source::Endpoint { url: cluster.url_of_truth(), tls: None };
        let domain = Name::parse("cluster.local").unwrap();
        let (truth, _following) = runtime.block_on(async {
            let (truth, following) = Truth::follow(source, domain, staleness).await.unwrap();
            truth.known(KNOWN_MAX).await.unwrap();
            // What was true before it was known cannot be judged.
            tokio::time::sleep(staleness.min(Duration::from_secs(1))).await;
            (truth, following)
        });
        Self { truth, runtime, _following }
    }

    /// Asks a question once and judges the answer; `None` where the oracle does not know.
    pub fn ask(&self, port: u16, question: &str) -> (Option<Verdict>, String) {
        let case = Self::case(port, question);
        let said = format!("{question}: {:?}", case.said);
        let judgement = self.runtime.block_on(self.truth.judge_later(&case));
        (judgement.map(|it| it.verdict), said)
    }

    /// Asks these questions in turn, all the time, until that is stopped.
    pub fn watch(self: &Arc<Self>, port: u16, questions: Vec<String>) -> Watching {
        let is_over = Arc::new(AtomicBool::new(false));
        let (oracle, over) = (Arc::clone(self), Arc::clone(&is_over));
        let asking = std::thread::spawn(move || {
            let (mut waiting, mut verdicts) = (VecDeque::new(), Verdicts::default());
            for (question, number) in questions.iter().cycle().zip(0..) {
                // Each is asked once at least.
                let is_over = over.load(Relaxed) && number >= questions.len();
                if !is_over {
                    waiting.push_back((question, Self::case(port, question)));
                }
                oracle.judge(&mut waiting, is_over, &mut verdicts);
                if is_over {
                    break;
                }
            }
            verdicts
        });
        Watching { is_over, asking }
    }

    /// Judges what was asked so long ago that all is known of that time; in the end, all.
    fn judge(&self, waiting: &mut Waiting<'_>, is_over: bool, verdicts: &mut Verdicts) {
        let is_due = |case: &Case| is_over || case.answered.elapsed() > self.truth.early();
        while waiting.front().is_some_and(|(_, case)| is_due(case)) {
            let Some((question, case)) = waiting.pop_front() else { return };
            let judgement = self.runtime.block_on(self.truth.judge_later(&case));
            verdicts.count(judgement.map(|it| it.verdict), question, &case);
        }
    }

    fn case(port: u16, question: &str) -> Case {
        let (name, rtype) = question.split_once(' ').unwrap();
        let zone = if name.ends_with('.') { "" } else { ".cluster.local." };
        let asked = Instant::now();
        let reply = query::udp_within(port, question, LOST_AFTER);
        Case {
            name: Name::parse(&format!("{name}{zone}")).unwrap(),
            sought: Sought::by_packet(record_type(rtype)),
            said: reply.map_or(Said::Nothing, |reply| said(&reply)),
            asked,
            answered: Instant::now(),
        }
    }
}

/// What was answered and not yet judged, by its question.
type Waiting<'q> = VecDeque<(&'q String, Case)>;

/// Questions that are being asked.
pub struct Watching {
    is_over: Arc<AtomicBool>,
    asking: JoinHandle<Verdicts>,
}

impl Watching {
    /// Ends, and tells what came of it.
    pub fn stop(self) -> Verdicts {
        self.is_over.store(true, Relaxed);
        self.asking.join().unwrap()
    }
}

impl Verdicts {
    fn count(&mut self, verdict: Option<Verdict>, question: &str, case: &Case) {
        let counter = match verdict {
            Some(Verdict::Ok) => &mut self.ok,
            Some(Verdict::Stale) => &mut self.stale,
            Some(Verdict::WrongNegative) => &mut self.wrong_negative,
            Some(Verdict::WrongPositive) => &mut self.wrong_positive,
            Some(Verdict::Lost) => &mut self.lost,
            None => &mut self.not_judged,
        };
        *counter += 1;
        if !matches!(verdict, None | Some(Verdict::Ok)) && self.told.len() < TOLD_MAX {
            self.told.push(format!("{question}: {:?} is {verdict:?}", case.said));
        }
    }

    /// Checks that all was answered and all of that was true.
    pub fn all_true(&self) {
        let untrue = self.stale + self.wrong_negative + self.wrong_positive + self.lost;
        assert_eq!(untrue, 0, "{self:#?}");
        assert!(self.ok > 0, "nothing was judged: {self:?}");
    }
}

/// What a reply says, to the oracle.
fn said(reply: &Message) -> Said {
    match reply.metadata.response_code {
        ResponseCode::NXDomain => return Said::NxDomain,
        ResponseCode::NoError => {}
        _ => return Said::Nothing,
    }
    let is_cut = reply.metadata.truncation;
    let (mut addresses, mut names) = (BTreeSet::<IpAddr>::new(), BTreeSet::new());
    let mut name = |text: String| names.insert(Name::parse(&text).unwrap());
    for record in &reply.answers {
        match &record.data {
            RData::A(address) => drop(addresses.insert(address.0.into())),
            RData::AAAA(address) => drop(addresses.insert(address.0.into())),
            RData::SRV(service) => drop(name(service.target.to_string())),
            RData::PTR(target) => drop(name(target.to_string())),
            _ => {}
        }
    }
    match (addresses.is_empty(), names.is_empty()) {
        (false, _) => Said::Addresses { set: addresses, is_cut },
        (true, false) => Said::Names { set: names, is_cut },
        (true, true) => Said::NoData,
    }
}

fn record_type(text: &str) -> RecordType {
    match text {
        "A" => RecordType::A,
        "AAAA" => RecordType::AAAA,
        "SRV" => RecordType::SRV,
        "PTR" => RecordType::PTR,
        other => panic!("{other} is not judged"),
    }
}
