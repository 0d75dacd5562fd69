//! Asks somebody else.
pub mod config;
