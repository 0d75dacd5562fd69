//! The pages that machines read, `/health`, `/ready` and `/metrics`, on one OS thread of their own.
//!
//! The thread runs a single-threaded runtime that nothing else uses, so a page is answered while
//! the UDP workers and the main runtime are saturated. [`Pages`] is the handle: [`Pages::listen`]
//! names the whole set of addresses each time, and what stays is not touched; dropping it ends the
//! thread.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use tokio::sync::mpsc;

use super::listeners::Listeners;
use super::{Error, Exposition, Readiness, health};

mod text;

pub use text::{Text, TextPages, serve_text};

/// Orders that wait for the thread: one, because whoever orders holds the only handle and waits.
const ORDERS_MAX: usize = 1;

/// One page, and by its order the directive that is named first in errors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Page {
    /// `/health`: the process lives.
    Health,
    /// `/ready`: it wants traffic.
    Ready,
    /// `/metrics`.
    Metrics,
}

impl Page {
    /// The directive of the Corefile that asks for it.
    pub fn directive(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "prometheus",
        }
    }

    /// Adds it to what a listener serves.
    fn route(self, router: Router, sources: &Sources) -> Router {
        match self {
            Self::Health => router.route("/health", get(health::page)),
            Self::Ready => {
                let readiness = Arc::clone(&sources.readiness);
                router.route("/ready", get(move || async move { readiness.page(Instant::now()) }))
            }
            Self::Metrics => {
                let exposition = Arc::clone(&sources.exposition);
                let page = move |headers: HeaderMap| async move { exposition.page(&headers) };
                router.route("/metrics", get(page))
            }
        }
    }
}

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Sources {
    pub readiness: Arc<Readiness>,
    pub exposition: Arc<Exposition>,
}

impl Sources {
    /// Everything that one listener answers.
    pub(super) fn router(&self, pages: &BTreeSet<Page>) -> Router {
        pages.iter().fold(Router::new(), |router, page| page.route(router, self))
    }
}

/// A wish for one page at one address. The same address may carry several pages, and the same page
/// may be wished for by several blocks. `[::]` means all addresses, of IPv4 too, as `:8080` does in
/// a Corefile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen {
    pub page: Page,
    pub address: SocketAddr,
}

/// Everything that is to be listened on, and where to say how that went.
struct Order {
    listens: Vec<Listen>,
    reply: SyncSender<Result<Vec<SocketAddr>, Error>>,
}

/// The running thread.
#[derive(Debug)]
pub struct Pages {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Pages {
    /// Starts the thread; it listens nowhere yet.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn start(sources: Sources) -> Result<Self, Error> {
        const NAME: &str = "pages";
        let no_thread = |source| Error::Thread { name: NAME, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(no_thread)?;
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let thread = std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || runtime.block_on(obey(inbox, Listeners::new(sources))))
            .map_err(no_thread)?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Listens on exactly `listens`, at start and at each reload. Addresses that stay keep their
    /// sockets and connections; new ones are bound before old ones are given up, and all or none.
    /// Returns the bound address of each wish, in order. Blocks for as long as binding takes.
    ///
    /// # Errors
    /// [`Error::AddressInUse`] or [`Error::Listen`]: everything is as it was before the call.
    pub fn listen(&mut self, listens: &[Listen]) -> Result<Vec<SocketAddr>, Error> {
        const GONE: Error = Error::Bug("the thread of the pages has ended");
        let (reply, replies) = sync_channel(1);
        let order = Order { listens: listens.to_vec(), reply };
        let orders = self.orders.as_ref().ok_or(GONE)?;
        orders.try_send(order).map_err(|_| GONE)?;
        replies.recv().map_err(|_| GONE)?
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            // It ends at its next await point; a panic in it was told when it happened.
            let _ = thread.join();
        }
    }
}

/// The life of the thread: until the handle is dropped.
async fn obey(mut inbox: mpsc::Receiver<Order>, mut listeners: Listeners) {
    while let Some(Order { listens, reply }) = inbox.recv().await {
        // Whoever ordered waits for the reply; if it is gone, so is the interest in it.
        let _ = reply.send(listeners.change_to(&listens).await);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::ops::{Build, Counters};

    const LOCAL: &str = "127.0.0.1:0";

    fn sources() -> Sources {
        let build = Build { version: "1.0", revision: "abc" };
        Sources {
            readiness: Arc::default(),
            exposition: Arc::new(Exposition::new(Counters::default(), build)),
        }
    }

    fn started() -> Pages {
        Pages::start(sources()).unwrap()
    }

    fn at(address: &str, page: Page) -> Listen {
        Listen { page, address: address.parse().unwrap() }
    }

    fn send(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        // Whether the server reads all of it or closes early is its choice.
        let _ = stream.write_all(request);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8(reply).unwrap()
    }

    fn get_page(address: SocketAddr, path: &str) -> (u16, String) {
        let reply = send(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn ok() -> (u16, String) {
        (200, "OK".to_owned())
    }

    #[test]
    fn one_address_serves_several_pages_for_several_blocks() {
        let mut pages = started();
        let all = [Page::Health, Page::Ready, Page::Metrics, Page::Health];
        let bound = pages.listen(&all.map(|page| at(LOCAL, page))).unwrap();
        assert!(bound.iter().all(|address| *address == bound[0]));
        assert_eq!(get_page(bound[0], "/health"), ok());
        assert_eq!(get_page(bound[0], "/ready"), ok());
        assert!(get_page(bound[0], "/metrics").1.contains("coredns_build_info"));
        assert_eq!(get_page(bound[0], "/other").0, 404);
    }

    #[test]
    fn page_is_served_only_where_it_was_asked_for() {
        let mut pages = started();
        let listens = [at(LOCAL, Page::Health), at("127.0.0.2:0", Page::Metrics)];
        let bound = pages.listen(&listens).unwrap();
        assert_eq!(get_page(bound[0], "/metrics").0, 404);
        assert_eq!(get_page(bound[1], "/health").0, 404);
    }

    #[test]
    fn unready_part_is_named_and_health_stays_ok_through_shutdown() {
        let sources = sources();
        let readiness = Arc::clone(&sources.readiness);
        let mut pages = Pages::start(sources).unwrap();
        let bound = pages.listen(&[at(LOCAL, Page::Ready), at(LOCAL, Page::Health)]).unwrap();
        let kubernetes = readiness.register("kubernetes");
        assert_eq!(get_page(bound[0], "/ready"), (503, "kubernetes".to_owned()));
        kubernetes.became_ready();
        assert_eq!(get_page(bound[0], "/ready"), ok());
        readiness.begin_shutdown();
        assert_eq!(get_page(bound[0], "/ready").0, 503);
        assert_eq!(get_page(bound[0], "/health"), ok());
    }

    #[test]
    fn pages_answer_while_the_runtime_that_started_them_is_blocked() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pages = started();
            let bound = pages.listen(&[at(LOCAL, Page::Health)]).unwrap();
            // The only thread of this runtime waits here without yielding.
            assert_eq!(get_page(bound[0], "/health"), ok());
        });
    }

    #[test]
    fn reload_keeps_the_socket_of_an_address_that_stays_and_closes_one_that_goes() {
        let mut pages = started();
        let before = [at(LOCAL, Page::Health), at("127.0.0.2:0", Page::Ready)];
        let bound = pages.listen(&before).unwrap();
        let after = pages.listen(&[at(LOCAL, Page::Health), at(LOCAL, Page::Ready)]).unwrap();
        assert_eq!(after, [bound[0], bound[0]]);
        assert_eq!(get_page(bound[0], "/ready"), ok());
        assert!(TcpStream::connect(bound[1]).is_err());
    }

    #[test]
    fn address_in_use_names_directive_address_and_remedy_and_changes_nothing() {
        let holder = TcpListener::bind(LOCAL).unwrap();
        let taken = holder.local_addr().unwrap();
        let mut pages = started();
        let kept = pages.listen(&[at(LOCAL, Page::Health)]).unwrap()[0];
        let wish = Listen { page: Page::Metrics, address: taken };
        let error = pages.listen(&[wish, at("127.0.0.2:0", Page::Ready)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "prometheus {taken}: address in use; stop the program that listens there, \
                 or give prometheus another address"
            )
        );
        assert_eq!(get_page(kept, "/health"), ok());
    }

    #[test]
    fn address_of_another_host_is_refused_with_its_remedy() {
        let error = started().listen(&[at("192.0.2.1:0", Page::Ready)]).unwrap_err().to_string();
        assert!(error.starts_with("ready 192.0.2.1:0: "), "{error}");
        assert!(error.ends_with("give ready an address of this host"), "{error}");
    }

    /// Addresses that overlap: the system refuses to bind one beside the other.
    fn all_and_one(port: u16) -> (SocketAddr, SocketAddr) {
        (([0, 0, 0, 0], port).into(), ([127, 0, 0, 1], port).into())
    }

    #[test]
    fn reload_may_narrow_and_widen_the_address_of_a_port() {
        let mut pages = started();
        let bound = pages.listen(&[at("0.0.0.0:0", Page::Health)]).unwrap()[0];
        let (all, one) = all_and_one(bound.port());
        for address in [one, all] {
            let bound = pages.listen(&[Listen { page: Page::Health, address }]).unwrap();
            assert_eq!(bound, [address]);
            assert_eq!(get_page(one, "/health"), ok());
        }
    }

    #[test]
    fn reload_that_fails_reopens_what_gave_way() {
        let mut pages = started();
        let bound = pages.listen(&[at(LOCAL, Page::Health)]).unwrap()[0];
        let (all, _) = all_and_one(bound.port());
        let wish = [Listen { page: Page::Health, address: all }, at("192.0.2.1:0", Page::Ready)];
        pages.listen(&wish).unwrap_err();
        assert_eq!(get_page(bound, "/health"), ok());
        assert_eq!(pages.listen(&[at(LOCAL, Page::Health)]).unwrap(), [bound]);
    }

    #[test]
    fn request_beyond_its_limit_is_refused() {
        let mut pages = started();
        let bound = pages.listen(&[at(LOCAL, Page::Health)]).unwrap();
        let mut request = b"GET /health HTTP/1.1\r\nx: ".to_vec();
        request.resize(64 * 1024, b'a');
        assert!(!send(bound[0], &request).starts_with("HTTP/1.1 200"));
        assert_eq!(get_page(bound[0], "/health"), ok());
    }

    #[test]
    fn connections_that_say_nothing_give_way_to_one_that_asks() {
        let sources = sources();
        let counters = sources.exposition.counters().clone();
        let mut pages = Pages::start(sources).unwrap();
        let bound = pages.listen(&[at(LOCAL, Page::Health)]).unwrap();
        let silent: Vec<_> = (0..64).map(|_| TcpStream::connect(bound[0]).unwrap()).collect();
        assert_eq!(get_page(bound[0], "/health"), ok());
        // 64 silent ones and the one that asked, with room for 32.
        assert!(counters.http_crowded_out.get() >= 32);
        drop(silent);
    }
}
