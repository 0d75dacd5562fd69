//! Every kind of Service, asked for in every way that has an answer of its own.

use crate::asker::{eventually, until};
use crate::dig::{self, Over};
use crate::server::Server;
use crate::upstream::Over as Carrier;
use crate::{World, check_all};

/// What a question is answered with: code, then records.
pub const EXISTING: [(&str, &str); 51] = [
    // ClusterIP.
    ("web.shop.svc A", "NOERROR, A 10.96.100.1"),
    ("WEB.Shop.SVC A", "NOERROR, A 10.96.100.1"),
    ("web.shop.svc AAAA", "NOERROR"),
    ("web.shop.svc TXT", "NOERROR"),
    ("web.shop.svc SRV", "NOERROR, SRV 0 100 80 web.shop.svc"),
    ("_http._tcp.web.shop.svc SRV", "NOERROR, SRV 0 100 80 web.shop.svc"),
    ("_http._tcp.web.shop.svc A", "NOERROR, A 10.96.100.1"),
    ("-x 10.96.100.1", "NOERROR, PTR web.shop.svc"),
    ("10-244-1-11.web.shop.svc A", "NOERROR, A 10.244.1.11"),
    ("-x 10.244.1.11", "NOERROR, PTR 10-244-1-11.web.shop.svc"),
    ("web.staging.svc A", "NOERROR, A 10.96.101.1"),
    // Two families.
    ("dual.shop.svc A", "NOERROR, A 10.96.100.2"),
    ("dual.shop.svc AAAA", "NOERROR, AAAA fd00:10:96::a02"),
    ("_dns._udp.dual.shop.svc SRV", "NOERROR, SRV 0 50 53 dual.shop.svc"),
    ("_dns-tcp._tcp.dual.shop.svc SRV", "NOERROR, SRV 0 50 53 dual.shop.svc"),
    ("-x 10.96.100.2", "NOERROR, PTR dual.shop.svc"),
    ("-x fd00:10:96::a02", "NOERROR, PTR dual.shop.svc"),
    ("six.staging.svc A", "NOERROR"),
    ("six.staging.svc AAAA", "NOERROR, AAAA fd00:10:96::b01"),
    // A port without a name has no name in DNS.
    ("plain.shop.svc A", "NOERROR, A 10.96.100.3"),
    ("plain.shop.svc SRV", "NOERROR, SRV 0 100 8000 plain.shop.svc"),
    // Inside of the cluster these are their cluster IP.
    ("node.shop.svc A", "NOERROR, A 10.96.100.4"),
    ("lb.shop.svc A", "NOERROR, A 10.96.100.5"),
    ("_https._tcp.lb.shop.svc SRV", "NOERROR, SRV 0 100 443 lb.shop.svc"),
    // Headless, with hostnames.
    ("db.shop.svc A", "NOERROR, A 10.244.1.21, A 10.244.1.22"),
    ("db-0.db.shop.svc A", "NOERROR, A 10.244.1.21"),
    ("db-1.db.shop.svc A", "NOERROR, A 10.244.1.22"),
    ("db-1.db.shop.svc AAAA", "NOERROR"),
    (
        "_pg._tcp.db.shop.svc SRV",
        "NOERROR, SRV 0 50 5432 db-0.db.shop.svc, SRV 0 50 5432 db-1.db.shop.svc",
    ),
    ("-x 10.244.1.21", "NOERROR, PTR db-0.db.shop.svc"),
    // Headless, by address, in both families.
    ("peers.shop.svc A", "NOERROR, A 10.244.1.31"),
    ("peers.shop.svc AAAA", "NOERROR, AAAA fd00:10:244::31"),
    ("10-244-1-31.peers.shop.svc A", "NOERROR, A 10.244.1.31"),
    ("fd00-10-244--31.peers.shop.svc AAAA", "NOERROR, AAAA fd00:10:244::31"),
    ("-x fd00:10:244::31", "NOERROR, PTR fd00-10-244--31.peers.shop.svc"),
    // publishNotReadyAddresses.
    ("eager.shop.svc A", "NOERROR, A 10.244.1.41"),
    // A slice by hand; no condition means ready.
    ("outside.shop.svc A", "NOERROR, A 198.51.100.7, A 198.51.100.8"),
    ("primary.outside.shop.svc A", "NOERROR, A 198.51.100.7"),
    ("-x 198.51.100.8", "NOERROR, PTR 198-51-100-8.outside.shop.svc"),
    // Aliases; the target is resolved by us.
    ("pay.shop.svc CNAME", "NOERROR, CNAME pay.example.com"),
    ("pay.shop.svc A", "NOERROR, pay.example.com A 192.0.2.1, CNAME pay.example.com"),
    ("front.staging.svc CNAME", "NOERROR, CNAME web.shop.svc"),
    ("front.staging.svc A", "NOERROR, CNAME web.shop.svc, web.shop.svc A 10.96.100.1"),
    ("front.staging.svc AAAA", "NOERROR, CNAME web.shop.svc"),
    // Namespaces and the apex are names, too.
    ("shop.svc A", "NOERROR"),
    ("empty.svc A", "NOERROR"),
    ("svc A", "NOERROR"),
    ("dns-version TXT", "NOERROR, TXT \"1.1.0\""),
    // Pods by address, whether or not there is one.
    ("10-9-8-7.shop.pod A", "NOERROR, A 10.9.8.7"),
    ("10-9-8-7.shop.pod AAAA", "NOERROR"),
    // Names outside are forwarded.
    ("www.example.org. A", "NOERROR, A 192.0.2.1"),
];

/// What has no answer, and where that word comes from.
pub const MISSING: [(&str, &str); 15] = [
    ("gone.shop.svc A", "NXDOMAIN"),
    ("web.gone.svc A", "NXDOMAIN"),
    ("gone.svc A", "NXDOMAIN"),
    ("_https._tcp.web.shop.svc SRV", "NXDOMAIN"),
    ("_http._udp.web.shop.svc SRV", "NXDOMAIN"),
    ("_http._tcp.plain.shop.svc SRV", "NXDOMAIN"),
    ("db-2.db.shop.svc A", "NXDOMAIN"),
    ("10-244-1-32.peers.shop.svc A", "NXDOMAIN"),
    // Kubernetes DNS specification §2.4.1: no ready endpoint, no name.
    ("waiting.shop.svc A", "NXDOMAIN"),
    ("plain.shop.svc.cluster.local A", "NXDOMAIN"),
    ("a.b.c.web.shop.svc A", "NXDOMAIN"),
    ("10-9-8-7.gone.pod A", "NXDOMAIN"),
    ("web.shop A", "NXDOMAIN"),
    // The code is that of the end of the chain (RFC 6604 §3).
    ("broken.staging.svc A", "NXDOMAIN, CNAME gone.shop.svc"),
    ("pay.shop.svc AAAA", "NXDOMAIN, CNAME pay.example.com"),
];

pub fn every_kind_of_service(world: &mut World) {
    let port = world.live.ports.dns;
    // The slices of the last Pods may still be on their way.
    until(port, "eager.shop.svc A", "NOERROR 10.244.1.41");
    until(port, "db.shop.svc A", "NOERROR 10.244.1.21 10.244.1.22");
    until(port, "peers.shop.svc AAAA", "NOERROR fd00:10:244::31");
    until(port, "10-244-1-11.web.shop.svc A", "NOERROR 10.244.1.11");
    check_all(&world.live, &EXISTING);
    check_sections(&world.live);
}

/// What stands beside the answer section.
fn check_sections(live: &Server) {
    let ask = |question| dig::ask(live.ports.dns, question, Over::Udp);
    let found = ask("web.shop.svc A");
    assert_eq!(found.flags, "qr aa rd");
    assert_eq!(found.answer[0].ttl_s, 30, "the ttl of the Corefile");
    assert!(found.authority.is_empty());

    let srv = ask("_pg._tcp.db.shop.svc SRV");
    let glue: Vec<String> = srv.additional.iter().map(ToString::to_string).collect();
    assert_eq!(glue, ["db-0.db.shop.svc A 10.244.1.21", "db-1.db.shop.svc A 10.244.1.22"]);

    for question in ["web.shop.svc AAAA", "gone.shop.svc A"] {
        let denied = ask(question);
        assert_eq!(denied.flags, "qr aa rd", "{question}");
        let soa = &denied.authority[0];
        assert!(soa.value.starts_with("SOA ns.dns hostmaster "), "{soa:?}");
        assert_eq!(denied.authority.len(), 1);
    }
    let forwarded = ask("www.example.org. A");
    assert_eq!(forwarded.flags, "qr rd ra");
}

pub fn that_do_not_exist(world: &mut World) {
    check_all(&world.live, &MISSING);
    // `fallthrough in-addr.arpa ip6.arpa`: addresses of nobody are for the upstream to know.
    let before = world.upstream.count(Carrier::Udp);
    check_all(&world.live, &[("-x 10.96.99.99", "NXDOMAIN"), ("-x fd00:10:96::ffff", "NXDOMAIN")]);
    assert!(world.upstream.count(Carrier::Udp) > before);
    eventually(|| match &world.live.complaints()[..] {
        [] => Ok(()),
        complaints => Err(format!("{complaints:?}")),
    });
}
