#![doc = include_str!("README.md")]
#![deny(unsafe_code)]
#![deny(rustdoc::broken_intra_doc_links)]
#![allow(rustdoc::private_intra_doc_links)]

// The rooms, in the order in which a packet and a change go through them.
pub mod wire;

pub mod listen;

pub mod resolve;

pub mod cluster;

pub mod forward;

pub mod corefile;

pub mod ops;

pub mod load;

pub mod app;
