//! What dashboards of CoreDNS read is there, and moves.

use crate::asker::ask;
use crate::{World, measured};

pub fn moves(world: &mut World) {
    let live = &world.live;
    let server = format!("server=\"dns://:{}\"", live.ports.dns);
    let upstream = format!("to=\"{}\"", world.upstream());
    let counted: [(&str, &[&str]); 8] = [
        ("coredns_dns_requests_total", &[&server, "zone=\".\"", "proto=\"udp\"", "type=\"A\""]),
        ("coredns_dns_responses_total", &[&server, "rcode=\"NOERROR\"", "plugin=\"kubernetes\""]),
        ("coredns_dns_responses_total", &[&server, "rcode=\"NXDOMAIN\"", "plugin=\"kubernetes\""]),
        ("coredns_dns_request_duration_seconds_count", &[&server]),
        ("coredns_dns_response_size_bytes_count", &[&server, "proto=\"udp\""]),
        ("coredns_cache_requests_total", &[&server]),
        ("coredns_cache_misses_total", &[&server]),
        ("coredns_proxy_request_duration_seconds_count", &["proxy_name=\"forward\"", &upstream]),
    ];
    let before = live.metrics();
    for (question, expected) in [
        ("web.shop.svc A", "NOERROR 10.96.100.1"),
        ("gone.shop.svc A", "NXDOMAIN"),
        ("never-asked.example.org. A", "NOERROR 192.0.2.1"),
    ] {
        assert_eq!(ask(live.ports.dns, question), expected);
    }
    let after = live.metrics();
    for (name, labels) in counted {
        let value = |scrape: &crate::server::Metrics| scrape.value(name, labels);
        assert!(value(&after) > value(&before), "{name} {labels:?}");
    }
    let hits = live.metrics().sum("coredns_cache_hits_total", &[]).unwrap_or_default();
    ask(live.ports.dns, "never-asked.example.org. A");
    assert!(live.metrics().value("coredns_cache_hits_total", &["type=\"success\""]) > hits);
    of_the_cluster(world);
}

fn of_the_cluster(world: &World) {
    let scrape = world.live.metrics();
    let latency = "coredns_kubernetes_dns_programming_duration_seconds";
    let kind = "service_kind=\"headless_with_selector\"";
    let count = scrape.value(&format!("{latency}_count"), &[kind]);
    assert!(count > 0.0, "the controller wrote when each Pod changed");
    let sum = scrape.value(&format!("{latency}_sum"), &[kind]);
    measured("programming latency, mean in seconds", sum / count);
    let host = format!("host=\"127.0.0.1:{}\"", world.plane.port);
    let requests = "coredns_kubernetes_rest_client_requests_total";
    assert!(scrape.value(requests, &["code=\"200\"", "method=\"GET\"", &host]) >= 3.0);
    let all = ["namespaces", "services", "endpointslices"];
    for resource in all {
        let kind = format!("kind=\"{resource}\"");
        assert_eq!(scrape.value("mainstay_cluster_synced", &[&kind]), 1.0);
        assert_eq!(scrape.value("mainstay_cluster_objects_skipped_total", &[&kind]), 0.0);
    }
    for plugin in ["kubernetes", "forward", "cache", "loop", "errors", "loadbalance"] {
        let name = format!("name=\"{plugin}\"");
        assert_eq!(scrape.value("coredns_plugin_enabled", &[&name, "zone=\".\""]), 1.0);
    }
    for (name, expected) in [("coredns_panics_total", 0.0), ("mainstay_log_lines_lost_total", 0.0)]
    {
        assert_eq!(scrape.value(name, &[]), expected, "{name}");
    }
    measured("resident memory in MB", scrape.value("process_resident_memory_bytes", &[]) / 1e6);
}
