//! Puts the same questions to both servers, and judges what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::thread::{self, sleep};
use std::time::Duration;

use crate::ask::{ask, is_silent};
use crate::cluster::Facts;
use crate::differences::{self, Cut, Difference, Witness};
use crate::questions::{A, Over, PTR, Question, question};
use crate::reply::{NOERROR, NXDOMAIN, Reply, TC};
use crate::servers::Pair;

/// Unexplained differences that are shown, each of another shape.
const SHOWN_MAX: usize = 40;

/// How often what came out.
#[derive(Default)]
pub struct Tally {
    pub questions: usize,
    pub same: usize,
    pub deliberate: usize,
    pub unexplained: usize,
    /// By the id of the difference.
    pub reasons: BTreeMap<&'static str, usize>,
    /// By shape: how many, and one of them.
    shapes: BTreeMap<String, (usize, String)>,
}

/// One question with both replies.
struct Case {
    question: Question,
    theirs: Reply,
    ours: Reply,
    /// The replies over TCP, where one of the others may have been cut.
    whole: Option<(Reply, Reply)>,
}

/// Why two replies differ: nothing for equal ones.
enum Verdict {
    Explained(Vec<&'static str>),
    Unexplained,
}

/// How long a Service that lost its last endpoint may keep it here, twice over: endpoints move from
/// slice to slice in two events, and CoreDNS shows the empty instant between them.
const HELD_MAX: Duration = Duration::from_secs(1);

/// How often it is asked at most, where that is told: who publishes may be behind after a pause of
/// the machine.
const LOOKS: usize = 4;

/// Asks both servers, and counts; anew while the last change may still be held.
pub fn compare(pair: &Pair, questions: &[Question], facts: &Facts, when: &str) -> Tally {
    let mut tally = compare_once(pair, questions, facts, when);
    for _ in 1..LOOKS {
        if tally.unexplained == 0 {
            break;
        }
        println!("  {} differ {when}; asked anew after {HELD_MAX:?}", tally.unexplained);
        sleep(HELD_MAX);
        tally = compare_once(pair, questions, facts, when);
    }
    tally
}

fn compare_once(pair: &Pair, questions: &[Question], facts: &Facts, when: &str) -> Tally {
    let (theirs, ours) = ask_both(pair, questions);
    let mut cases: Vec<Case> = Vec::with_capacity(questions.len());
    for ((question, theirs), ours) in questions.iter().zip(theirs).zip(ours) {
        cases.push(Case { question: question.clone(), theirs, ours, whole: None });
    }
    add_whole_replies(pair, &mut cases);
    let mut verdicts: Vec<Verdict> = cases.iter().map(|case| judge(case, facts)).collect();
    hear_witnesses(pair, &cases, &mut verdicts, facts);
    let mut tally = Tally { questions: cases.len(), ..Tally::default() };
    for (case, verdict) in cases.iter().zip(verdicts) {
        match verdict {
            Verdict::Explained(reasons) if reasons.is_empty() => tally.same += 1,
            Verdict::Explained(reasons) => {
                tally.deliberate += 1;
                reasons.iter().for_each(|id| *tally.reasons.entry(id).or_default() += 1);
            }
            Verdict::Unexplained => tally.note(case, pair.variant.name, when),
        }
    }
    tally
}

/// An explanation that CoreDNS itself contradicts is none.
fn hear_witnesses(pair: &Pair, cases: &[Case], verdicts: &mut [Verdict], facts: &Facts) {
    let mut called: Vec<(usize, Witness)> = Vec::new();
    for (at, (case, verdict)) in cases.iter().zip(&*verdicts).enumerate() {
        let Verdict::Explained(ids) = verdict else { continue };
        let ours = case.whole.as_ref().map_or(&case.ours, |(_, ours)| ours);
        let witness = |id: &&str| Witness::of(id, &case.question, ours, facts);
        called.extend(ids.iter().find_map(witness).map(|witness| (at, witness)));
    }
    let questions: Vec<Question> = called.iter().map(|(_, it)| it.question.clone()).collect();
    let replies = ask("CoreDNS", pair.theirs, &questions);
    for ((at, witness), reply) in called.iter().zip(replies) {
        if !witness.holds(&Reply::read(&reply).expect("CoreDNS writes whole messages")) {
            verdicts[*at] = Verdict::Unexplained;
        }
    }
}

/// Asks for one of the addresses whose PTR CoreDNS sends no reply to; Mainstay has to.
pub fn silence(pair: &Pair, nameless: &BTreeSet<String>, tally: &mut Tally) {
    let is_served = |name: &&String| pair.variant.serves_address(name);
    let Some(name) = nameless.iter().find(is_served) else { return };
    let question = question(name, PTR, 0);
    if is_silent(pair.theirs, &question) {
        let reply = Reply::read(&ask("Mainstay", pair.ours, &[question])[0]).unwrap();
        assert!([NOERROR, NXDOMAIN].contains(&reply.rcode), "{name} PTR: {reply}");
        tally.note_deliberate(differences::SILENCE);
    }
}

/// An address of this host that may be that of an endpoint, as CoreDNS knows it.
pub fn own_address(pair: &Pair) -> Option<Ipv4Addr> {
    let question = question("ns.dns.cluster.local", A, 0);
    let reply = Reply::read(&ask("CoreDNS", pair.theirs, &[question])[0]).unwrap();
    let addresses =
        reply.answer.iter().filter_map(|record| <[u8; 4]>::try_from(&record.rdata[..]).ok());
    addresses.map(Ipv4Addr::from).find(|address| !address.is_link_local())
}

fn ask_both(pair: &Pair, questions: &[Question]) -> (Vec<Reply>, Vec<Reply>) {
    let read = |server: &str, port| -> Vec<Reply> {
        let replies = ask(server, port, questions);
        let read = |(reply, question): (&Vec<u8>, &Question)| {
            Reply::read(reply).unwrap_or_else(|error| panic!("{server}: {question}: {error}"))
        };
        replies.iter().zip(questions).map(read).collect()
    };
    thread::scope(|scope| {
        let theirs = scope.spawn(|| read("CoreDNS", pair.theirs));
        let ours = read("Mainstay", pair.ours);
        (theirs.join().unwrap(), ours)
    })
}

/// What does not fit is judged beside what there is.
fn add_whole_replies(pair: &Pair, cases: &mut [Case]) {
    let is_cut = |case: &Case| {
        let is_tc = case.theirs.has(TC) || case.ours.has(TC);
        let lacks = case.theirs.additional.len() > case.ours.additional.len();
        case.question.over == Over::Udp && (is_tc || lacks)
    };
    let cut: Vec<usize> = (0..cases.len()).filter(|at| is_cut(&cases[*at])).collect();
    let questions: Vec<Question> = cut.iter().map(|at| cases[*at].question.over_tcp()).collect();
    let (theirs, ours) = ask_both(pair, &questions);
    for ((at, theirs), ours) in cut.into_iter().zip(theirs).zip(ours) {
        cases[at].whole = Some((theirs, ours));
    }
}

fn judge(case: &Case, facts: &Facts) -> Verdict {
    let Case { question, theirs, ours, whole } = case;
    let mut reasons = Vec::new();
    match (&theirs.edns, &ours.edns) {
        (theirs, ours) if theirs == ours => {}
        (Some(theirs), Some(ours)) => match differences::of_edns(question, theirs, ours) {
            Some(ids) => reasons.extend(ids),
            None => return Verdict::Unexplained,
        },
        _ => return Verdict::Unexplained,
    }
    let (theirs, ours) = (theirs.without_edns(), ours.without_edns());
    let Some(whole) = whole else {
        let difference = Difference { question, theirs: &theirs, ours: &ours, facts };
        return explain(&difference, reasons);
    };
    let whole = (whole.0.without_edns(), whole.1.without_edns());
    let difference = Difference { question, theirs: &whole.0, ours: &whole.1, facts };
    let Verdict::Explained(mut reasons) = explain(&difference, reasons) else {
        return Verdict::Unexplained;
    };
    let cut = Cut { question, theirs: (&theirs, &whole.0), ours: (&ours, &whole.1) };
    match cut.explain() {
        Some(ids) => {
            reasons.extend(ids);
            Verdict::Explained(reasons)
        }
        None => Verdict::Unexplained,
    }
}

fn explain(difference: &Difference<'_>, mut reasons: Vec<&'static str>) -> Verdict {
    if difference.theirs != difference.ours {
        match difference.explain() {
            Some(ids) => reasons.extend(ids),
            None => return Verdict::Unexplained,
        }
    }
    Verdict::Explained(reasons)
}

impl Tally {
    /// Counts a difference that was looked at apart.
    pub fn note_deliberate(&mut self, id: &'static str) {
        self.questions += 1;
        self.deliberate += 1;
        *self.reasons.entry(id).or_default() += 1;
    }

    /// Takes another one in.
    pub fn add(&mut self, other: Self) {
        self.questions += other.questions;
        self.same += other.same;
        self.deliberate += other.deliberate;
        self.unexplained += other.unexplained;
        for (id, count) in other.reasons {
            *self.reasons.entry(id).or_default() += count;
        }
        for (shape, (count, example)) in other.shapes {
            self.shapes.entry(shape).or_insert((0, example)).0 += count;
        }
    }

    /// Shows what nobody has explained, the most frequent first.
    pub fn show_unexplained(&self) {
        let mut shapes: Vec<_> = self.shapes.iter().collect();
        shapes.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (shape, (count, example)) in shapes.iter().take(SHOWN_MAX) {
            println!("UNEXPLAINED {count} × {shape}\n{example}");
        }
        if shapes.len() > SHOWN_MAX {
            println!("… and {} more shapes", shapes.len() - SHOWN_MAX);
        }
    }

    fn note(&mut self, case: &Case, variant: &str, when: &str) {
        self.unexplained += 1;
        let Case { question, theirs, ours, whole } = case;
        let shape = format!(
            "{}: {} against {}{}",
            question.type_name(),
            outline(theirs),
            outline(ours),
            if whole.is_some() { ", cut" } else { "" },
        );
        let example = || {
            let mut text = format!("    {question}, {variant}, {when}\n");
            text += &format!("    CoreDNS:  {theirs}\n    Mainstay: {ours}\n");
            if let Some((theirs, ours)) = whole {
                text += &format!("    CoreDNS, whole:  {theirs}\n    Mainstay, whole: {ours}\n");
            }
            text
        };
        self.shapes.entry(shape).or_insert_with(|| (0, example())).0 += 1;
    }
}

/// Code, flags and whether there are records: what makes the shape of a reply.
fn outline(reply: &Reply) -> String {
    let count = |len: usize| if len > 2 { "many".to_owned() } else { len.to_string() };
    format!(
        "{}/{:04x}/{}/{}/{}",
        reply.rcode,
        reply.flags & !0x0130,
        count(reply.answer.len()),
        count(reply.authority.len()),
        count(reply.additional.len())
    )
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { questions, same, deliberate, unexplained, .. } = self;
        write!(
            formatter,
            "questions {questions}, same {same}, deliberate {deliberate}, unexplained {unexplained}"
        )
    }
}
