//! What CoreDNS itself says to another question, where an explanation would else take our word for
//! whether a name exists.

use super::PTR;
use super::aliases::end;
use crate::cluster::Facts;
use crate::questions::{Over, Question, text};
use crate::reply::{NXDOMAIN, Reply};

/// A type that no name in the cluster has: its denial tells whether the name exists.
const HTTPS: u16 = 65;

/// A question to CoreDNS.
pub struct Witness {
    pub question: Question,
    proof: Proof,
}

/// What its reply has to be.
enum Proof {
    Code(u16),
    Records,
}

impl Witness {
    /// The witness that an explanation needs, if it needs one.
    pub fn of(id: &str, question: &Question, ours: &Reply, facts: &Facts) -> Option<Self> {
        let ask = |name: Vec<u8>, rtype, proof| {
            let question = Question { name, rtype, over: Over::Tcp, edns: None, flags: 0x0100 };
            Some(Self { question, proof })
        };
        match id {
            "soa-below-the-apex" => ask(question.name.clone(), HTTPS, Proof::Code(NXDOMAIN)),
            "reverse-name-has-other-types" => {
                let name = question.name_text();
                let is_silent = facts.nameless.contains(name.trim_end_matches('.'));
                if is_silent { None } else { ask(question.name.clone(), PTR, Proof::Records) }
            }
            "alias-has-every-type"
            | "alias-tells-the-code-of-its-end"
            | "alias-is-told-before-a-denial"
            | "alias-has-the-soa-of-a-denial" => {
                let end = end(question, ours);
                let name = text(&end);
                // These have rows of their own.
                let is_other = name.ends_with(".arpa.") || name.starts_with("dns-version.");
                if is_other { None } else { ask(end, HTTPS, Proof::Code(ours.rcode)) }
            }
            _ => None,
        }
    }

    /// Whether the reply proves what it has to.
    pub fn holds(&self, reply: &Reply) -> bool {
        match self.proof {
            Proof::Code(code) => reply.rcode == code,
            Proof::Records => !reply.answer.is_empty(),
        }
    }
}
