//! What to answer.
pub mod config;
