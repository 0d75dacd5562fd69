//! A12 to A17: what the cluster does itself, however fast and in whatever order.

use std::net::Ipv4Addr;

use crate::asker::until;
use crate::evil::{Evil, Way};
use crate::fake_cluster::FakeCluster;
use crate::fake_cluster::objects::{headless, ready, service, slice};
use crate::query;
use crate::stand::Stand;

#[test]
fn a15_a_service_that_is_made_again_has_its_new_address_only() {
    let cluster = FakeCluster::start();
    cluster.apply(service("shop", "web", &["10.96.0.1"]));
    cluster.apply(headless("shop", "db"));
    cluster.apply(slice("shop", "db-1", "db", &[ready("10.0.0.1")]));
    let upstream = Evil::start(Ipv4Addr::new(192, 0, 2, 1), Way::Good);
    let server = Stand::of(&cluster).upstream(&upstream).start_ready("a15");
    let port = server.ports.dns;
    until(port, "web.shop.svc A", "NOERROR 10.96.0.1");
    until(port, "db.shop.svc A", "NOERROR 10.0.0.1");
    until(port, "www.example.org. A", "NOERROR 192.0.2.1");
    cluster.delete("services", "shop", "web");
    cluster.apply(service("shop", "web", &["10.96.0.2"]));
    until(port, "web.shop.svc A", "NOERROR 10.96.0.2");
    for _ in 0..1000 {
        let reply = query::udp(port, "web.shop.svc A").unwrap();
        assert_eq!(query::values(&reply), ["10.96.0.2"]);
    }
    assert_eq!(query::code(&query::tcp(port, "web.shop.svc A").unwrap()), "NOERROR");
}
