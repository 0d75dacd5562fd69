//! Looks up each argument with `ares_getaddrinfo`, one after the other, as c-ares is without
//! options. For each a line: `ok` and the addresses, or how the application hears that it failed.

use std::sync::mpsc;
use std::time::Duration;

use c_ares::{AddrInfoHints, Channel, Error, EventSys, Options};

/// Pause between two names.
const AFTER_CALLBACK: Duration = Duration::from_millis(50);

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names == ["--version"] {
        println!("c-ares {}", c_ares::version().0);
        return;
    }
    let mut options = Options::new();
    options.set_event_thread(EventSys::Default);
    let mut channel = Channel::with_options(options).expect("there is memory");
    for name in names {
        println!("{}", look_up(&mut channel, &name));
        // The thread of the library closes idle sockets after it has called back.
        std::thread::sleep(AFTER_CALLBACK);
    }
}

fn look_up(channel: &mut Channel, name: &str) -> String {
    let (sender, receiver) = mpsc::channel();
    // Without a kind of socket each address is told for each of them; that changes no packet.
    let hints = AddrInfoHints::default();
    channel.get_addrinfo(name, None, &hints, move |found| {
        let line = match found {
            Ok(found) => {
                let addresses = found.nodes().filter_map(|node| node.socket_addr());
                addresses.fold("ok".to_owned(), |line, it| format!("{line} {}", it.ip()))
            }
            Err(error @ (Error::ENOTFOUND | Error::ENODATA)) => format!("unknown-host {error}"),
            Err(error) => format!("try-again {error}"),
        };
        let _ = sender.send(line);
    });
    receiver.recv().expect("c-ares calls back")
}
