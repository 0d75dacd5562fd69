//! Asks somebody else: one upstream, and the next one when that fails.
//!
//! ```text
//! Question ─► Forward ─► choose: in which order ─► asking ◄─► course: whom, when, how long
//!               ▲                                     │
//!   resolv.conf ┘ read again each 5 s                 └─► Upstream ─► exchange (UDP) ─► Answer
//!                   on failure: probe until healthy ◄─────┘   TC ───► stream (TCP) ───►
//! ```
//!
//! What upstreams send is never an error of ours: a datagram that does not fit its question is
//! counted and the wait goes on (RFC 5452 §9); one with a wrong id sends the question over TCP.
//! Time-outs, network errors and poor response codes lead to the next upstream, a late answer too,
//! as far as the [`Budget`] of the query and the share of hedges go.
//! A Forward ends its background tasks when it is dropped.

mod allowance;
mod asking;
pub mod budget;
mod choose;
pub mod config;
pub mod counters;
pub mod course;
mod directive;
mod entropy;
mod exchange;
pub mod failure;
pub mod health;
pub mod looping;
mod request;
pub mod resolv;
pub mod rtt;
mod stream;
pub mod upstream;

#[cfg(test)]
#[path = "../../tests/support/upstream.rs"]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use config::Config;
pub use directive::Forward;
pub use exchange::notify;
pub use failure::Failure;
pub use looping::LoopProbe;
pub use upstream::Upstream;

use std::sync::Arc;

use crate::wire::{Answer, Ede};

/// An Answer, and who gave it.
#[derive(Clone, Debug)]
pub struct Answered {
    pub answer: Answer,
    pub upstream: Arc<Upstream>,
}

/// What a second opinion on a denial says.
#[derive(Clone, Debug)]
pub enum Opinion {
    /// Another upstream denies it too, or the only one does so again, over TCP and a second later.
    Agrees,
    /// Another upstream has an Answer that is no denial, or denies less: the type and not the name.
    Differs(Answered),
    /// Nobody else answered in time.
    Unknown,
}

/// Why a question has no Answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The operator must act: the targets of the directive cannot be used.
    #[error(transparent)]
    Config(#[from] resolv::Unusable),
    /// Every upstream that was tried failed.
    #[error("{last}")]
    Upstream {
        /// How the last one did.
        last: Failure,
        /// Whether the network spoke for each of them, so that none was only silent.
        all_by_network: bool,
    },
    /// `max_concurrent` is reached. The caller answers REFUSED, as CoreDNS.
    #[error("more than {0} queries in flight; raise max_concurrent or add upstreams")]
    TooMany(usize),
    /// The Budget of the query was spent before anybody could be asked.
    #[error("the budget of this query is spent; its names lead to too many others")]
    Spent,
    /// We could not even ask: no socket, no port, no memory. That says nothing of any upstream.
    #[error("{0}")]
    Local(Failure),
    /// No upstream may be sent more packets.
    #[error("packets_per_second of every upstream is spent; raise it or add upstreams")]
    Paced,
    /// All are down, and `failfast_all_unhealthy_upstreams` is set.
    #[error("no healthy proxies; every upstream is down")]
    AllDown,
    /// No file could be read yet.
    #[error("no upstream is known yet; its file could not be read")]
    NoUpstream,
    /// Every upstream leads back to us.
    #[error("every upstream sends our queries back to us; forward to a nameserver outside")]
    Loop,
}

impl Error {
    /// What clients are told (RFC 8914). `None` where the response code says all.
    pub fn ede(&self) -> Option<Ede> {
        match self {
            Self::Upstream { last, all_by_network: true } => Some(last.network_error()),
            Self::Upstream { .. } | Self::AllDown => Some(Ede::NO_REACHABLE_AUTHORITY),
            Self::Spent | Self::Paced | Self::Local(_) => Some(Ede::NOT_ASKED),
            Self::Config(_) | Self::NoUpstream => Some(Ede::NO_UPSTREAM),
            Self::Loop => Some(Ede::LOOP),
            Self::TooMany(_) => None,
        }
    }
}
