//! What is written of upstreams, and how wrong words are told.

use super::*;
use crate::corefile::directives::testing::{check_problems, read};

fn forward(directive: &str) -> Config {
    let (mut block, warnings) = read(directive);
    assert_eq!(warnings, [""; 0], "{directive}");
    block.forward.remove(0)
}

fn at(text: &str) -> Target {
    Target::Address(text.parse().unwrap())
}

#[test]
fn targets_are_addresses_and_files() {
    let name = |text: &str| Name::parse(text).unwrap();
    assert_eq!(
        forward("forward . /etc/resolv.conf"),
        Config::new(name("."), vec![Target::ResolvConf("/etc/resolv.conf".into())])
    );
    let many = "forward Corp.Example 192.0.2.1 192.0.2.1:5353 2001:db8::1 [2001:db8::1] \
                    [2001:db8::1]:54 dns://192.0.2.2 dns://[::1]:55 ./upstreams";
    let targets = vec![
        at("192.0.2.1:53"),
        at("192.0.2.1:5353"),
        at("[2001:db8::1]:53"),
        at("[2001:db8::1]:53"),
        at("[2001:db8::1]:54"),
        at("192.0.2.2:53"),
        at("[::1]:55"),
        Target::ResolvConf("./upstreams".into()),
    ];
    assert_eq!(forward(many), Config::new(name("corp.example"), targets));
    assert_eq!(forward("forward 10.0.0.0/8 192.0.2.1").from, name("10.in-addr.arpa"));
    let fifteen = format!("forward . {}", "192.0.2.1 ".repeat(15));
    assert_eq!(forward(&fifteen).to.len(), TARGETS_MAX);
}

#[test]
fn options_are_read() {
    let all = forward(
        "forward . 192.0.2.1 {\n except a 10.0.0.0/8\n except b\n force_tcp\n prefer_udp\n \
             expire 20s\n max_fails 0\n max_concurrent 1000\n policy sequential\n \
             health_check 1s no_rec domain example.org\n}",
    );
    let except: Vec<String> = all.except.iter().map(ToString::to_string).collect();
    assert_eq!(except, ["a.", "10.in-addr.arpa.", "b."]);
    assert!(all.force_tcp && all.prefer_udp && !all.health_check.recursion);
    assert_eq!((all.expire, all.max_fails), (Duration::from_secs(20), 0));
    assert_eq!((all.max_concurrent, all.policy), (Some(1000), Policy::Sequential));
    assert_eq!(all.health_check.interval, Duration::from_secs(1));
    assert_eq!(all.health_check.domain.to_string(), "example.org.");
    assert_eq!((all.hedge_percent, all.packets_per_second), (10, None));
    let other = forward(
        "forward . 192.0.2.1 {\n policy round_robin\n max_concurrent 0\n health_check \
             no_rec\n}",
    );
    assert_eq!((other.max_concurrent, other.policy), (None, Policy::RoundRobin));
    assert_eq!(other.health_check.interval, Duration::from_millis(500));
}

#[test]
fn options_of_tries_are_read() {
    let all = forward(
        "forward . 192.0.2.1 {\n max_age 1m\n max_idle_conns 4\n read_timeout 1500ms\n \
             max_connect_attempts 3\n failover NXDOMAIN refused\n failover SERVFAIL\n \
             failfast_all_unhealthy_upstreams\n source_address 192.0.2.7\n hedge 0\n \
             packets_per_second 900\n}",
    );
    assert_eq!((all.max_age, all.max_idle_conns), (Duration::from_secs(60), 4));
    assert_eq!(all.read_timeout, Duration::from_millis(1500));
    assert_eq!((all.max_connect_attempts, all.fails_fast), (3, true));
    assert_eq!(all.failover, [Rcode::NXDOMAIN, Rcode::REFUSED, Rcode::SERVFAIL]);
    assert_eq!(all.source_address, "192.0.2.7".parse().ok());
    assert_eq!((all.hedge_percent, all.packets_per_second), (0, Some(900)));
}

#[test]
fn u12_a_try_that_outlasts_its_query_is_told() {
    let (block, warnings) = read("forward . 192.0.2.1 {\n read_timeout 10s\n}");
    assert_eq!(block.forward[0].read_timeout, Duration::from_secs(10));
    assert!(warnings[0].contains("a query takes 4.5s at most"), "{warnings:?}");
}

#[test]
fn a_block_may_forward_several_times() {
    let (block, _) = read("forward a 192.0.2.1\nforward . 192.0.2.2");
    assert_eq!(block.forward.len(), 2);
}

#[test]
fn targets_that_it_does_not_take_are_told() {
    const USAGE: &str = "lacks an argument; write \"forward FROM TO…\"";
    const NOT_AN_ADDRESS: &str = "is neither an address nor the path of a file; upstreams by \
                                      host name are not supported yet";
    let too_many = format!("forward . {}192.0.2.9", "192.0.2.1 ".repeat(15));
    check_problems(&[
        ("forward", &format!("2 - \"forward\" {USAGE}")),
        ("forward .", &format!("2 - \"forward\" {USAGE}")),
        ("forward . dns.example", &format!("2 - \"dns.example\" {NOT_AN_ADDRESS}")),
        ("forward . 192.0.2.1:dns", &format!("2 - \"192.0.2.1:dns\" {NOT_AN_ADDRESS}")),
        ("forward . 192.0.2.1:0", &format!("2 - \"192.0.2.1:0\" {NOT_AN_ADDRESS}")),
        ("forward . [192.0.2.1]", &format!("2 - \"[192.0.2.1]\" {NOT_AN_ADDRESS}")),
        (
            "forward . tls://192.0.2.1",
            "2 - tls:// upstreams are not supported yet: \"tls://192.0.2.1\"",
        ),
        (
            "forward . https://dns.example/dns-query",
            "2 - https:// upstreams are not supported yet: \"https://dns.example/dns-query\"",
        ),
        ("forward . ftp://192.0.2.1", "2 - unknown scheme \"ftp\"; use dns:// or none"),
        (
            "forward . dns:///etc/resolv.conf",
            "2 - a file takes no scheme; write \"/etc/resolv.conf\"",
        ),
        (
            "forward 10.0.0.0/12 192.0.2.1",
            "2 - \"10.0.0.0/12\" is 16 reverse zones; write one \"forward\" for each",
        ),
        ("forward a..b 192.0.2.1", "2 - zone \"a..b\": empty label"),
        (&too_many, "2 - more than 15 targets; split them over several servers"),
    ]);
}

#[test]
fn options_that_it_does_not_take_are_told() {
    for (option, problem) in [
        ("except", "\"except\" lacks an argument; write \"except ZONES…\""),
        ("except a..b", "zone \"a..b\": empty label"),
        ("force_tcp on", "\"force_tcp\" does not take \"on\"; write \"force_tcp\""),
        ("prefer_udp on", "\"prefer_udp\" does not take \"on\"; write \"prefer_udp\""),
        ("expire 10", "\"10\" is not a duration; write it like 5s or 1m30s"),
        ("expire", "\"expire\" lacks an argument; write \"expire DURATION\""),
        ("max_fails two", "\"two\" is not a number from 0 to 4294967295"),
        ("max_fails -1", "\"-1\" is not a number from 0 to 4294967295"),
        ("max_concurrent many", "\"many\" is not a number from 0 to 16777216"),
        ("max_concurrent", "\"max_concurrent\" lacks an argument; write \"max_concurrent NUMBER\""),
        ("read_timeout 0s", "\"0s\" is shorter than 1ms"),
        ("failover", "\"failover\" lacks an argument; write \"failover RCODES…\""),
        ("failover NOERROR", "\"NOERROR\" is the answer, and leads to no other upstream"),
        ("failover SERVFIAL", "\"SERVFIAL\" is not a response code; write one like SERVFAIL"),
        ("source_address eth0", "\"eth0\" is not an address"),
        ("hedge 101", "\"101\" is not a number from 0 to 100"),
        ("packets_per_second many", "\"many\" is not a number from 0 to 1000000"),
        (
            "policy roundrobin",
            "\"policy\" does not take \"roundrobin\"; write \"policy \
                 random|round_robin|sequential\"; did you mean \"round_robin\"?",
        ),
        ("policy", "\"policy\" lacks an argument; write \"policy random|round_robin|sequential\""),
        ("health_check 0s", "\"0s\" is shorter than 1ms"),
        (
            "health_check 1s recursive",
            "\"health_check\" does not take \"recursive\"; write \"health_check [DURATION] \
                 [no_rec] [domain FQDN]\"",
        ),
        (
            "health_check 1s domain",
            "\"health_check\" lacks an argument; write \"health_check [DURATION] [no_rec] \
                 [domain FQDN]\"",
        ),
        ("health_check 1s domain a..b", "domain \"a..b\": empty label"),
        (
            "tls_servername dns.example",
            "\"tls_servername\" is a CoreDNS option of \"forward\" that Mainstay does not \
                 support yet",
        ),
        (
            "max_concurent 5",
            "unknown option \"max_concurent\" of \"forward\"; did you mean \"max_concurrent\"?",
        ),
    ] {
        let directive = format!("forward . 192.0.2.1 {{\n {option}\n}}");
        check_problems(&[(&directive, &format!("3 - {problem}"))]);
    }
}
