//! `upstream` statements: what a scripted upstream answers. What it was not told is REFUSED.
//!
//! ```text
//! upstream  up www.example.org A = NOERROR
//!           www.example.org 300 A 192.0.2.1
//!           authority example.org 300 SOA ns.example.org root.example.org 1 2 3 4 60
//! upstream  up www.example.org A = NOERROR aa ad; …     with these flags; RA is always set
//! upstream  up www.example.org A = NXDOMAIN ede=15 ede=6       with extended errors, in its words
//! upstream  up www.example.org A = truncated; …         TC and no record over UDP, all over TCP
//! upstream  up * = silent                               takes everything, answers nothing
//! upstream  up * = gone                                 nobody listens any more
//! ```

use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use mainstay::wire::{Rcode, RecordType};

use super::shape::{self, Section};
use super::upstream::{Act, Asked, LoopbackUpstream, Over};

/// A scripted upstream.
pub struct Scripted {
    rules: Arc<Mutex<Vec<Rule>>>,
    /// `None` when it is gone.
    server: Option<LoopbackUpstream>,
    pub address: std::net::SocketAddr,
}

/// What is answered to one question, or to all.
#[derive(Clone)]
struct Rule {
    question: Option<(String, RecordType)>,
    response: Response,
}

#[derive(Clone)]
enum Response {
    Silence,
    Message { rcode: Rcode, flags: Vec<String>, records: Vec<String> },
}

impl Scripted {
    /// An upstream that refuses everything.
    pub async fn start() -> Self {
        let rules: Arc<Mutex<Vec<Rule>>> = Arc::default();
        let known = rules.clone();
        let server = LoopbackUpstream::scripted(move |asked| answer(&known.lock().unwrap(), asked));
        let server = server.await;
        Self { rules, address: server.address, server: Some(server) }
    }

    /// Takes an `upstream` statement, without the name of the upstream. The last word counts.
    pub fn learn(&mut self, items: &[String]) -> Result<(), String> {
        let (question, response) = items[0].split_once('=').ok_or("without =")?;
        let question: Vec<&str> = question.split_whitespace().skip(1).collect();
        let question = match question[..] {
            ["*"] => None,
            [name, rtype] => {
                let rtype = RecordType::parse(rtype).ok_or(format!("not a type: {rtype}"))?;
                Some((name.to_ascii_lowercase(), rtype))
            }
            _ => return Err("neither * nor NAME TYPE".into()),
        };
        let mut words = response.split_whitespace().map(str::to_owned);
        let response = match words.next().as_deref() {
            Some("silent") => Response::Silence,
            Some("gone") => {
                self.server = None;
                return Ok(());
            }
            Some(first) => {
                let is_truncated = first == "truncated";
                let rcode = if is_truncated { "NOERROR" } else { first };
                let rcode = Rcode::parse(rcode).ok_or(format!("not a code: {rcode}"))?;
                let flags = words.chain(is_truncated.then(|| "tc".to_owned())).collect();
                let records = items[1..].to_vec();
                for record in &records {
                    shape::record(record)?;
                }
                Response::Message { rcode, flags, records }
            }
            None => return Err("no answer".into()),
        };
        self.rules.lock().unwrap().push(Rule { question, response });
        Ok(())
    }

    /// Questions that arrived over this transport, or over any, without health and loop probes.
    pub fn count(&self, over: Option<Over>) -> usize {
        let asked = self.server.as_ref().map(LoopbackUpstream::asked).unwrap_or_default();
        let counts = |asked: &&Asked| {
            let (name, rtype) = question(&asked.packet);
            let is_probe = (name == "." && rtype == RecordType::NS) || rtype == RecordType::HINFO;
            !is_probe && over.is_none_or(|over| over == asked.over)
        };
        asked.iter().filter(counts).count()
    }
}

fn question(packet: &[u8]) -> (String, RecordType) {
    let message = Message::from_vec(packet).unwrap();
    let question = &message.queries[0];
    (shape::name(question.name()), RecordType(question.query_type().into()))
}

fn answer(rules: &[Rule], asked: &Asked) -> Vec<Act> {
    let (name, rtype) = question(&asked.packet);
    let is_about = |rule: &&Rule| match &rule.question {
        Some(question) => *question == (name.to_ascii_lowercase(), rtype),
        None => true,
    };
    let refused = Response::Message { rcode: Rcode::REFUSED, flags: vec![], records: vec![] };
    let rule = rules.iter().rev().find(is_about).map(|rule| rule.response.clone());
    match rule.unwrap_or(refused) {
        Response::Silence => Vec::new(),
        Response::Message { rcode, flags, records } => {
            vec![Act::Send(message(asked, rcode, &flags, &records))]
        }
    }
}

fn message(asked: &Asked, rcode: Rcode, flags: &[String], records: &[String]) -> Vec<u8> {
    let has = |flag: &str| flags.iter().any(|other| other == flag);
    let mut message = Message::from_vec(&asked.packet).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.metadata.response_code = ResponseCode::from(0, rcode.0 as u8);
    message.metadata.recursion_available = true;
    message.metadata.authoritative = has("aa");
    message.metadata.authentic_data = has("ad");
    message.metadata.truncation = has("tc") && asked.over == Over::Udp;
    if message.metadata.truncation {
        return message.to_vec().unwrap();
    }
    for code in flags.iter().filter_map(|flag| flag.strip_prefix("ede=")) {
        let code: u16 = code.parse().expect("ede=NUMBER");
        let octets = [&code.to_be_bytes()[..], b"https://blocked.example/?you=10.1.2.3"].concat();
        let edns = message.edns.get_or_insert_default();
        edns.options_mut().insert(EdnsOption::Unknown(15, octets));
    }
    for record in records {
        let (section, record) = shape::record(record).expect("was read before");
        match section {
            Section::Answer => message.answers.push(record),
            Section::Authority => message.authorities.push(record),
            Section::Additional => message.additionals.push(record),
        }
    }
    message.to_vec().unwrap()
}
