//! placeholder
#![deny(unsafe_code)]
pub mod app;
pub mod cluster;
pub mod corefile;
pub mod forward;
pub mod listen;
pub mod ops;
pub mod resolve;
pub mod wire;
