//! Kubernetes → Zone.
pub mod config;
pub mod index;
pub mod object;
pub mod published;
pub mod records;
pub mod schema;
pub mod trie;
pub mod zone;
pub mod read;
