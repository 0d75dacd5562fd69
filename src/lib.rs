//! placeholder
pub mod cluster;
pub mod corefile;
pub mod forward;
pub mod resolve;
pub mod wire;
