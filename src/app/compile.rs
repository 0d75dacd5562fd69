//! Corefile → Plan: server blocks become Blocks, directives become Steps in a fixed order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Error;
use super::parts::Parts;
use crate::corefile::{Corefile, Key, ServerBlock};
use crate::forward::LoopProbe;
use crate::resolve::config::TransferConfig;
use crate::resolve::external::External;
use crate::resolve::kubernetes::Kubernetes;
use crate::resolve::plan::{Block, Plan, Port, Zoned};
use crate::resolve::step::Step;
use crate::wire::Name;

/// What a compilation needs besides the Corefile.
pub struct Setting {
    /// UDP workers that count: each gets a shard of the counters.
    pub workers: usize,
    /// Addresses of this host.
    pub own_addresses: Arc<[IpAddr]>,
}

/// Compiles a Corefile, taking parts over from `old`.
///
/// # Errors
/// A directive whose part cannot be started; `old` is as it was.
pub fn compile(
    corefile: &Corefile,
    old: &Parts,
    setting: &Setting,
) -> Result<(Arc<Plan>, Parts), Error> {
    let mut parts = old.next();
    let mut by_port: BTreeMap<u16, Vec<Zoned>> = BTreeMap::new();
    for server in &corefile.blocks {
        let block = Arc::new(block(server, old, &mut parts, setting)?);
        for key in &server.keys {
            let name = server_name(key.port);
            let tally = parts.tally(&name, &key.zone.to_string(), setting.workers);
            let zoned = Zoned { zone: key.zone.clone(), block: block.clone(), tally };
            by_port.entry(key.port).or_default().push(zoned);
        }
    }
    let port = |(number, zones)| {
        let unserved = parts.tally(&server_name(number), "dropped", setting.workers);
        Port::new(number, zones, unserved)
    };
    let ports = by_port.into_iter().map(port).collect();
    Ok((Arc::new(Plan { ports }), parts))
}

/// The `server` label of a port.
pub fn server_name(port: u16) -> String {
    format!("dns://:{port}")
}

fn block(
    server: &ServerBlock,
    old: &Parts,
    parts: &mut Parts,
    setting: &Setting,
) -> Result<Block, Error> {
    let mut steps = Vec::new();
    let key = &server.keys[0];
    let place = |directive: &str, index: usize| place(key, directive, index);
    let mut forwards = Vec::new();
    for (index, config) in server.forward.iter().enumerate() {
        forwards.push(parts.forward(old, place("forward", index), config)?);
    }
    // The probe of `loop` must see its queries before anything answers them.
    if let (true, Some(forwarding)) = (server.loop_detection, forwards.first()) {
        let listen = format!(":{}", key.port);
        let probe = LoopProbe::start(key.zone.clone(), listen, &forwarding.forward);
        steps.push(Step::Loop(Arc::new(probe)));
    }
    let mut transfers = Vec::new();
    if let Some(config) = &server.kubernetes {
        let published = parts.cluster(old, config).published.clone();
        let shown = || {
            let own_addresses = setting.own_addresses.clone();
            Kubernetes::new(config, own_addresses, published.clone())
        };
        if let Some(external) = &server.external {
            let own_addresses = setting.own_addresses.clone();
            let step = External::new(external, own_addresses, published.clone());
            steps.push(Step::External(step));
        }
        steps.push(Step::Kubernetes(shown()));
        for (index, transfer) in server.transfer.iter().enumerate() {
            let place = place("transfer", index);
            let is_its = |apex: &&Name| {
                TransferConfig::covering(&server.transfer, apex.as_ref()) == Some(index)
            };
            let apexes = config.zones.iter().filter(is_its).cloned().collect();
            transfers.push(parts.transfer(old, place, transfer, apexes, shown()));
        }
    }
    if let Some(config) = &server.cache {
        let zones = if config.zones.is_empty() { server.zones() } else { config.zones.clone() };
        let cache = parts.cache(old, place("cache", 0), config, zones);
        // What the upstreams of before failed at, those of now may answer.
        if forwards.iter().any(|forwarding| !old.has_forward(forwarding)) {
            cache.outage_ended();
        }
        steps.push(Step::Cache(cache));
    }
    steps.extend(forwards.into_iter().map(Step::Forward));
    Ok(Block {
        steps,
        transfers,
        turns_addresses: server.loadbalance,
        errors: server
            .errors
            .as_ref()
            .map(|config| parts.error_log(old, place("errors", 0), config)),
        is_published: server.prometheus.is_some(),
    })
}

/// Names a directive: the first key names a block as long as it exists, wherever it stands in the
/// file.
pub(super) fn place(key: &Key, directive: &str, index: usize) -> String {
    format!("{}:{} {directive} {index}", key.zone, key.port)
}

/// The directives of a block, by name, for `coredns_plugin_enabled`.
pub fn enabled(server: &ServerBlock) -> Vec<&'static str> {
    let all = [
        ("cache", server.cache.is_some()),
        ("errors", server.errors.is_some()),
        ("forward", !server.forward.is_empty()),
        ("health", server.health.is_some()),
        ("k8s_external", server.external.is_some()),
        ("kubernetes", server.kubernetes.is_some()),
        ("loadbalance", server.loadbalance),
        ("loop", server.loop_detection),
        ("prometheus", server.prometheus.is_some()),
        ("ready", server.ready.is_some()),
        ("reload", server.reload.is_some()),
        ("shed", server.shed),
        ("transfer", !server.transfer.is_empty()),
    ];
    all.into_iter().filter(|(_, is_enabled)| *is_enabled).map(|(name, _)| name).collect()
}
