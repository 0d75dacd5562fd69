//! What a user writes wrong gets exit status 2 and one line that names the option and the remedy,
//! before anything is sent.

use tempfile::TempDir;

use crate::fake::Fake;
use crate::running::{Ended, Load, run_with_names};

/// Names that are right.
const NAMES: &str = "web.example. A\n";

/// Was refused with one line that has all of `parts`.
fn check_refused(ended: &Ended, what: &str, parts: &[&str]) {
    let said = &ended.stderr;
    assert_eq!(ended.code, Some(2), "{what}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{what}: {said}");
    assert!(said.starts_with("mainstay load: "), "{what}: {said}");
    for part in parts {
        assert!(said.contains(part), "{what}: no {part:?} in {said}");
    }
    assert!(ended.report.is_none(), "{what}");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let server = Fake::silent();
    for (words, parts) in [
        ("--rate 0", &["--rate", "0"][..]),
        ("--rate -1", &["--rate"]),
        ("--rate NaN", &["--rate"]),
        ("--rate inf", &["--rate"]),
        ("--profile banana:5", &["--profile", "banana", "constant"]),
        ("--profile ramp:1..5", &["--profile", "ramp"]),
        ("--profile step:1,2/0s", &["--profile"]),
        ("--duration forever", &["--duration", "forever"]),
        ("--timeout 0s", &["--timeout"]),
        ("--slow=-1s", &["--slow"]),
        ("--staleness x", &["--staleness"]),
        ("--slo p99", &["--slo", "p99"]),
        ("--slo banana<5ms", &["--slo", "banana"]),
        ("--slo p99<five", &["--slo", "five"]),
        ("--mix banana=5", &["--mix", "banana"]),
        ("--mix missing=60,ptr=60", &["--mix", "100"]),
        ("--popularity banana", &["--popularity", "banana"]),
        ("--popularity zipf:-1", &["--popularity"]),
        ("--foreign a..b", &["--foreign", "a..b"]),
        ("--cluster-domain a..b", &["--cluster-domain"]),
        ("--workers 0", &["--workers"]),
        ("--workers 3", &["--workers", "--coordinator"]),
        ("--workers 3 --index 3", &["--index", "from 0 to 2"]),
        ("--workers 3 --coordinator here", &["--coordinator", "HOST:PORT"]),
        ("--canary 200", &["--canary", "--rate"]),
        ("--canary 5 --fault command:true@1s", &["--canary", "--fault"]),
        ("--fault kil9@1s", &["--fault", "did you mean kill9?"]),
        ("--fault kill9", &["--fault", "kill9@10s"]),
        ("--fault kill9@1s", &["--fault", "--pid or --server-command"]),
        ("--fault restart@1s", &["--fault", "--server-command"]),
        ("--fault blackhole-upstream@1s..2s", &["--fault", "--upstream LISTEN=TO"]),
        ("--fault api-down@1s..2s", &["--fault", "--api LISTEN=TO"]),
        ("--fault delete-pod:a/b=c@1s", &["--fault", "--kubeconfig"]),
        ("--fault command:true@40s", &["--fault", "--duration"]),
        ("--upstream banana", &["--upstream", "banana"]),
        ("--upstream 127.0.0.1:0=banana", &["--upstream", "banana"]),
        ("--api banana", &["--api"]),
        ("--server-command /nonexistent/server", &["/nonexistent/server"]),
        ("--server-command '", &["--server-command", "quote"]),
        ("--pid 4194305", &["--pid", "4194305"]),
        ("--resolv-conf /nonexistent/conf", &["/nonexistent/conf"]),
        ("--namespace a..b", &["--namespace"]),
        ("--metrics 192.0.2.1:9253", &["--metrics", "192.0.2.1"]),
        ("--capture /nonexistent/pcap", &["/nonexistent/pcap"]),
        ("--manifests /nonexistent/folder", &["/nonexistent/folder"]),
        ("--kubeconfig /nonexistent/config", &["/nonexistent/config"]),
    ] {
        let ended = run_with_names(NAMES, &format!("{} {words}", server.address));
        check_refused(&ended, words, parts);
    }
    // Whether somebody is there, --server-command asks for the root.
    let names = server.asked().into_iter().filter(|title| title.contains("web"));
    assert_eq!(names.collect::<Vec<_>>(), [""; 0], "no lookup was sent");
}

#[test]
fn words_that_clap_knows_to_be_wrong_are_refused() {
    let server = Fake::silent();
    for (words, part) in [
        ("--rate many", "--rate"),
        ("--resolver windows", "--resolver"),
        ("--transport quic", "--transport"),
        ("--clients 0", "--clients"),
        ("--threads 65", "--threads"),
        ("--rate 5 --profile constant:5", "--profile"),
        ("--canary 5 --rate 5", "--rate"),
        ("--banana", "--banana"),
        ("kube-dns", "10.96.0.10"),
    ] {
        let ended = run_with_names(NAMES, &format!("{} {words}", server.address));
        assert_eq!(ended.code, Some(2), "{words}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{words}: {}", ended.stderr);
    }
    assert_eq!(server.asked(), [""; 0], "nothing was sent");
}

#[test]
fn names_that_make_no_sense_are_told_with_their_place() {
    let server = Fake::silent();
    let address = server.address.to_string();
    for (names, parts) in [
        ("", &["names: there is no name in it"][..]),
        ("; nothing\n\n", &["names: there is no name in it"]),
        ("web.example A\nweb..example A\n", &["names:2:", "web..example"]),
        ("web.example BANANA\n", &["names:1:", "BANANA"]),
        ("web.example IN A\n", &["names:1:", "leave out the class IN"]),
        ("web.example AXFR\n", &["names:1:", "AXFR"]),
        ("web.example A A\n", &["names:1:", "leave out the rest"]),
    ] {
        check_refused(&run_with_names(names, &address), names, parts);
    }
    assert_eq!(server.asked(), [""; 0], "nothing was sent");
}

#[test]
fn files_of_names_that_cannot_be_read_are_named() {
    for path in ["/nonexistent/names", "/"] {
        let ended = load(&["127.0.0.1:5353", "--names", path]);
        check_refused(&ended, path, &[path]);
    }
}

#[test]
fn a_run_needs_a_server_and_something_to_ask() {
    let folder = TempDir::new().unwrap();
    let conf = folder.path().join("conf");
    std::fs::write(&conf, "search a.example\n").unwrap();
    let conf = conf.display().to_string();
    check_refused(&load(&["--mix", "foreign=100"]), "no server", &["no server", "--resolv-conf"]);
    let ended = load(&["--mix", "foreign=100", "--resolv-conf", &conf]);
    check_refused(&ended, "no server in resolv.conf", &["no server", "--resolv-conf"]);
    check_refused(&load(&["127.0.0.1:5353"]), "no names", &["--names"]);
}

#[test]
fn servers_of_others_are_not_flooded_and_what_is_no_host_is_not_asked() {
    for (words, parts) in [
        ("192.0.2.1 --rate 5000", &["192.0.2.1", "--yes-i-own-this-server"][..]),
        ("192.0.2.1 --profile ramp:1..5000/10s", &["--yes-i-own-this-server"]),
        ("192.0.2.1 --profile step:10,2000/10s", &["--yes-i-own-this-server"]),
        ("127.0.0.1 192.0.2.1 --rate 5000", &["192.0.2.1", "--yes-i-own-this-server"]),
        ("[2001:db8::1]:53 --rate 1001", &["2001:db8::1", "--yes-i-own-this-server"]),
        ("0.0.0.0 --rate 1", &["0.0.0.0", "127.0.0.1"]),
        ("[::]:53 --rate 1", &["127.0.0.1"]),
        ("224.0.0.251:5353 --rate 1 --yes-i-own-this-server", &["multicast"]),
        ("255.255.255.255 --rate 1 --yes-i-own-this-server", &["broadcast"]),
        ("127.0.0.1:0 --rate 1", &["port"]),
    ] {
        check_refused(&run_with_names(NAMES, words), words, parts);
    }
}

/// Runs with these words alone.
fn load(words: &[&str]) -> Ended {
    Load::start_in(TempDir::new().unwrap(), words).end()
}

#[test]
fn reports_that_are_none_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("other.json");
    for text in ["", "{}", "[1]", "{\"schema\": \"mainstay.load/99\"}"] {
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        check_refused(&load(&["compare", path, path]), text, &["other.json"]);
    }
    let ended = load(&["compare", "/nonexistent/a.json", "/nonexistent/b.json"]);
    check_refused(&ended, "no file", &["/nonexistent/a.json"]);
    assert_eq!(load(&["compare", "a.json"]).code, Some(2));
}
