//! Which addresses the pages listen on: from one set to the next, all or nothing.
//!
//! Runs on the thread of the pages. An address that stays keeps its socket and only learns its new
//! pages. A new address may overlap with one that leaves (`:8080` became `127.0.0.1:8080`); the
//! system binds no such pair, so the leaving one gives way first and is reopened when we fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::http::{Listen, Page, Sources};
use super::{Error, connections, health};

/// Pages by the address as it was wished for.
type Wishes = BTreeMap<SocketAddr, BTreeSet<Page>>;

/// A socket that nobody accepts on yet. Dropping it frees its address at once.
struct Socket {
    wish: SocketAddr,
    bound: SocketAddr,
    listener: tokio::net::TcpListener,
}

impl Socket {
    /// Binds what `wish` says.
    fn bind(wish: SocketAddr) -> io::Result<Self> {
        let listener = bind(wish)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok(Self { wish, bound, listener: tokio::net::TcpListener::from_std(listener)? })
    }
}

/// One open socket and the task that accepts on it.
struct Listener {
    pages: BTreeSet<Page>,
    bound: SocketAddr,
    router: watch::Sender<Router>,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// Begins to accept on `socket`; it serves no page yet.
    fn start(socket: Socket, sources: &Sources) -> Self {
        let (router, routers) = watch::channel(Router::new());
        let counters = sources.exposition.counters().clone();
        let accepting = tokio::spawn(connections::accept(socket.listener, routers, counters));
        Self { pages: BTreeSet::new(), bound: socket.bound, router, accepting }
    }

    /// Serves other pages from the next connection on.
    fn serve(&mut self, pages: BTreeSet<Page>, sources: &Sources) {
        if self.pages != pages {
            drop(self.router.send_replace(sources.router(&pages)));
            self.pages = pages;
        }
    }

    /// Ends it; its socket is free when this returns.
    async fn close(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A listener that was closed, as it has to come back if the change fails.
struct Reopening {
    wish: SocketAddr,
    bound: SocketAddr,
    pages: BTreeSet<Page>,
}

/// The probe of our own `/health`, and where it asks.
struct Probe {
    address: SocketAddr,
    asking: JoinHandle<()>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

/// All open sockets, by the address as it was wished for.
pub(super) struct Listeners {
    sources: Sources,
    open: BTreeMap<SocketAddr, Listener>,
    probe: Option<Probe>,
}

impl Listeners {
    /// No sockets yet.
    pub(super) fn new(sources: Sources) -> Self {
        Self { sources, open: BTreeMap::new(), probe: None }
    }

    /// Turns the open set into `listens`; returns the bound address of each.
    ///
    /// # Errors
    /// An address that cannot be bound; the open set is as before.
    pub(super) async fn change_to(&mut self, listens: &[Listen]) -> Result<Vec<SocketAddr>, Error> {
        let wishes = gather(listens);
        let gave_way = self.close(self.rivals(&wishes)).await;
        match self.bind_missing(&wishes) {
            Ok(sockets) => {
                self.close(self.leaving(&wishes)).await;
                self.serve(wishes, sockets);
            }
            Err(error) => {
                self.reopen(gave_way);
                return Err(error);
            }
        }
        Ok(listens.iter().map(|listen| self.open[&listen.address].bound).collect())
    }

    /// What is open and not wished for.
    fn leaving(&self, wishes: &Wishes) -> Vec<SocketAddr> {
        self.open.keys().filter(|address| !wishes.contains_key(address)).copied().collect()
    }

    /// What leaves and holds the port of an address that comes.
    fn rivals(&self, wishes: &Wishes) -> Vec<SocketAddr> {
        let comes = |wish: &&SocketAddr| !self.open.contains_key(wish);
        let coming_ports: BTreeSet<u16> = wishes.keys().filter(comes).map(|w| w.port()).collect();
        let mut leaving = self.leaving(wishes);
        leaving.retain(|address| coming_ports.contains(&self.open[address].bound.port()));
        leaving
    }

    /// Closes `addresses`; their sockets are free when this returns. Returns what they served,
    /// under the address that was bound.
    async fn close(&mut self, addresses: Vec<SocketAddr>) -> Vec<Reopening> {
        let mut closed = Vec::new();
        for wish in addresses {
            if let Some(mut listener) = self.open.remove(&wish) {
                let pages = std::mem::take(&mut listener.pages);
                closed.push(Reopening { wish, bound: listener.bound, pages });
                listener.close().await;
            }
        }
        closed
    }

    /// Binds what is wished for and not open.
    fn bind_missing(&self, wishes: &Wishes) -> Result<Vec<Socket>, Error> {
        let is_missing = |(wish, _): &(&SocketAddr, _)| !self.open.contains_key(*wish);
        let bind = |(wish, pages): (&SocketAddr, &BTreeSet<Page>)| {
            Socket::bind(*wish).map_err(|source| refusal(first(pages), *wish, source))
        };
        wishes.iter().filter(is_missing).map(bind).collect()
    }

    /// Accepts on `sockets`, and tells each listener its pages.
    fn serve(&mut self, wishes: Wishes, sockets: Vec<Socket>) {
        for socket in sockets {
            self.open.insert(socket.wish, Listener::start(socket, &self.sources));
        }
        for (wish, pages) in wishes {
            if let Some(listener) = self.open.get_mut(&wish) {
                listener.serve(pages, &self.sources);
            }
        }
        self.aim_probe();
    }

    /// Brings back what gave way for nothing. Only another program that was faster can prevent it.
    fn reopen(&mut self, gave_way: Vec<Reopening>) {
        for Reopening { wish, bound, pages } in gave_way {
            match Socket::bind(bound) {
                Ok(socket) => {
                    let sockets = vec![Socket { wish, ..socket }];
                    self.serve(Wishes::from([(wish, pages)]), sockets);
                }
                Err(source) => tracing::error!("{}", refusal(first(&pages), bound, source)),
            }
        }
    }

    /// Points the probe at the first listener that serves `/health`, if that is another one.
    fn aim_probe(&mut self) {
        let serves = |listener: &&Listener| listener.pages.contains(&Page::Health);
        let target = self.open.values().find(serves).map(|listener| listener.bound);
        if self.probe.as_ref().map(|probe| probe.address) == target {
            return;
        }
        self.probe = target.map(|address| {
            let asking = health::probe(address, self.sources.exposition.counters().clone());
            Probe { address, asking: tokio::spawn(asking) }
        });
    }
}

/// The wishes by address.
fn gather(listens: &[Listen]) -> Wishes {
    let mut wishes = Wishes::new();
    for listen in listens {
        wishes.entry(listen.address).or_default().insert(listen.page);
    }
    wishes
}

/// Binds `address`. Where the kernel has no IPv6, all addresses are those of IPv4 (as Go's net).
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address);
    match &bound {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse && is_any_ipv6(address) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).or(bound)
        }
        _ => bound,
    }
}

/// Whether `address` is `[::]`.
fn is_any_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// The directive that errors name.
fn first(pages: &BTreeSet<Page>) -> &'static str {
    pages.first().map_or("listen", |page| page.directive())
}

/// Why `address` cannot be had, for who wrote the directive.
pub(super) fn refusal(directive: &'static str, address: SocketAddr, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::AddrInUse => Error::AddressInUse { directive, address },
        _ => Error::Listen { directive, address, source },
    }
}
