//! Kubernetes → Zone.
pub mod age;
pub mod config;
mod connect;
pub mod endpoints;
pub mod error;
pub mod externals;
pub mod feed;
mod flaws;
mod hosts;
pub mod index;
mod limits;
pub mod live;
mod manifest;
pub mod object;
mod outlet;
mod packed;
pub mod pods;
pub mod positions;
pub mod programming;
pub mod published;
pub mod read;
pub mod records;
pub mod schema;
#[cfg(test)]
#[path = "../../tests/support/api.rs"]
mod scripted_api;
pub mod selector;
pub mod snapshot;
pub mod source;
pub mod trie;
mod watch;
pub mod zone;
