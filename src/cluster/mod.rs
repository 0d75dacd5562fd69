//! Kubernetes → Zone.
pub mod config;
pub mod object;
