//! InetAddress of the JVM: glibc behind two caches and a lock for each name.

use std::sync::Arc;

use super::{Failure, Found, ResolvConf};
use crate::load::record::PacketCounts;
use crate::wire::{Name, RecordType};

/// One process.
pub struct Jvm {
    conf: Arc<ResolvConf>,
}

impl Jvm {
    /// A fresh process.
    pub fn new(conf: Arc<ResolvConf>, _seed: u64) -> Self {
        Self { conf }
    }

    /// Addresses of a host.
    pub async fn addresses(&self, _host: &str) -> Found {
        let _ = &self.conf;
        Found::of(Err(Failure::TryAgain), PacketCounts::default())
    }

    /// Records of an absolute name.
    pub async fn query(&self, _name: &Name, _rtype: RecordType) -> Found {
        Found::of(Err(Failure::TryAgain), PacketCounts::default())
    }
}
