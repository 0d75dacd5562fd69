//! What to answer: Plan, Block, Step; the cache and the Flights of forwarded names.

pub mod cache;
pub mod config;
pub mod entry;
pub mod errors;
pub mod external;
mod fetch;
pub mod flight;
pub mod hot;
pub mod journal;
pub mod keep;
pub mod kubernetes;
pub mod later;
pub mod now;
pub mod outage;
pub mod plan;
pub mod step;
pub mod tally;
pub mod transfer;
