//! P12, P16: starts after a refused reload, and starts that cannot be.

use std::net::TcpListener;

use super::*;

#[test]
fn p12_a_bad_corefile_without_a_copy_ends_with_its_line() {
    for supervised in [false, true] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("Corefile");
        std::fs::write(&path, ". {\n    cahce 30\n}\n").unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg("-conf").arg(&path).arg("--state").arg(folder.path());
        command.args(supervised.then_some("--supervised"));
        let (code, log) = Process::run("p12 refused", &mut command, HANG);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("Corefile:2 - unknown directive \"cahce\""), "{log}");
    }
}

#[test]
fn p16_a_corefile_from_standard_input_cannot_be_supervised() {
    let mut command = Command::new(PROGRAM);
    command.env("MAINSTAY_SUPERVISED", "1").args(["-conf", "stdin"]);
    let (code, log) = Process::run("p16 stdin", &mut command, HANG);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("name a file with -conf, or leave out --supervised"), "{log}");
}

/// The Corefile with the page `health` at an address that somebody has.
fn page_in_use(good: &str, site: &Site, taken: &TcpListener) -> String {
    let (from, to) = (site.server.ports.health, taken.local_addr().unwrap().port());
    good.replace(&format!("health 127.0.0.1:{from}"), &format!("health 127.0.0.1:{to}"))
}

fn last_good_in_use(site: &Site) -> f64 {
    site.server.metrics().value("mainstay_config_last_good_in_use", &[])
}

#[test]
fn p12_what_a_reload_refused_is_not_served_after_a_crash_either() {
    let (_runtime, upstream) = upstream(|asked| vec![Act::Send(good(&asked.packet))]);
    let mut site = Site::start("p12 crash", As::Supervised, upstream.address.port());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let good = std::fs::read_to_string(site.server.corefile()).unwrap();
    let copy = || std::fs::read_to_string(site.folder.path().join("state/Corefile.last-good"));
    eventually(|| copy().map(|_| ()).map_err(|error| error.to_string()));
    let kept = copy().unwrap();
    let bad = [
        good.replace("forward . 127.0.0.1", "forward . /nowhere/resolv.conf 127.0.0.1"),
        page_in_use(&good, &site, &taken),
    ];
    for (round, bad) in (1..).zip(bad) {
        site.server.edit(|_| bad);
        site.server.signal("USR1");
        site.until_lines("reload failed", round * 2 - 1);
        let child = site.child().unwrap();
        kill("KILL", child);
        site.next_child(child);
        site.is_up();
        // The next server refuses it as the last one did.
        site.until_lines("reload failed", round * 2);
        assert_eq!(last_good_in_use(&site), 1.0);
        let foreign = format!("name{round}.example.org. A");
        assert!(ask(site.server.ports.dns, &foreign).starts_with("NOERROR "));
        assert_eq!(copy().unwrap(), kept);
    }
    site.server.edit(|_| good.replace("cache 30", "cache 31"));
    site.server.signal("USR1");
    site.until_lines("Reloading complete", 1);
    assert_eq!(last_good_in_use(&site), 0.0);
    assert_eq!(site.end("TERM"), Some(0));
}

#[test]
fn p12_a_copy_that_could_not_be_written_is_not_gone_back_to_after_a_crash() {
    let mut site = Site::start("p12 copy", As::Supervised, 9);
    let copy = site.folder.path().join("state/Corefile.last-good");
    let read = || std::fs::read_to_string(&copy).map_err(|error| error.to_string());
    eventually(|| read().map(drop));
    let old = read().unwrap();
    site.server.edit(|good| good.replace("cache 30", "cache 31"));
    site.server.signal("USR1");
    site.until_lines("Reloading complete", 1);
    eventually(|| (read()? != old).then_some(()).ok_or_else(|| "it is the old one".to_owned()));
    // As if the disk had been full.
    std::fs::write(&copy, old).unwrap();
    let child = site.child().unwrap();
    kill("KILL", child);
    site.next_child(child);
    site.is_up();
    assert_eq!(last_good_in_use(&site), 0.0);
    assert_eq!(site.lines("is not the one that was served last"), 0);
    assert_eq!(site.end("TERM"), Some(0));
}

#[test]
fn p12_after_a_crash_a_cluster_that_is_not_known_does_not_take_the_place_of_one_that_was() {
    let mut site = Site::start("p12 cluster", As::Supervised, 9);
    let copy = site.folder.path().join("state/Corefile.last-good");
    eventually(|| copy.exists().then_some(()).ok_or_else(|| "there is no copy".to_owned()));
    // Nobody has looked at it when the server dies.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = format!("endpoint http://{}", taken.local_addr().unwrap());
    let manifests = format!("manifests {}/objects.yaml", site.folder.path().display());
    site.server.edit(|good| good.replace(&manifests, &silent));
    let child = site.child().unwrap();
    kill("KILL", child);
    site.next_child(child);
    site.until_lines("Reloading", 1);
    assert_eq!(ask(site.server.ports.dns, WEB), RIGHT);
    assert_eq!(last_good_in_use(&site), 1.0);
    // An end does not wait for the cluster.
    assert_eq!(site.end("TERM"), Some(0));
    assert_eq!(site.lines("Reloading complete"), 0);
}

#[test]
fn p12_a_start_that_cannot_listen_serves_the_last_good_corefile() {
    let mut first = Site::start("p12 listens", As::Alone, 9);
    let good = std::fs::read_to_string(first.server.corefile()).unwrap();
    assert_eq!(first.end("TERM"), Some(0));
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let bad = page_in_use(&good, &first, &taken);
    let (ports, folder) = (first.server.ports, first.folder.clone());
    drop(first);
    let mut second = Site::start_in("p12 cannot", As::Supervised, ports, folder, &bad);
    second.is_up();
    second.until_lines("THE COREFILE CANNOT BE SERVED", 1);
    assert_eq!(second.lines("THE COREFILE CANNOT BE SERVED"), 1, "{:?}", second.server.log());
    assert_eq!(last_good_in_use(&second), 1.0);
    // It is taken over once the address is free.
    drop(taken);
    second.server.signal("USR1");
    second.until_lines("Reloading complete", 1);
    assert_eq!(last_good_in_use(&second), 0.0);
    assert_eq!(second.end("TERM"), Some(0));
}
