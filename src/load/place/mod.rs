//! Where a run takes place: a command line, a Job, an Indexed Job, a canary that runs for ever.

mod call;
pub mod canary;
pub mod coordinator;
mod gather;
