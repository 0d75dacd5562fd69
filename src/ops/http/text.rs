//! `/metrics` and `/healthz` for another room, which makes the text: on a thread of its own, so
//! that they are answered while the rest of the process is saturated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::routing::get;
use tokio::sync::{oneshot, watch};

use super::super::{Counters, Error, connections, listeners};

/// What `/metrics` shows: from what the client accepts, the type of the content and the text.
pub type Text = Arc<dyn Fn(&str) -> (&'static str, String) + Send + Sync>;

/// The running thread. Dropping it frees the address.
#[derive(Debug)]
pub struct TextPages {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves what `text` makes at `/metrics`, and `OK` at `/healthz`. `option` is named in errors.
///
/// # Errors
/// [`Error::AddressInUse`], [`Error::Listen`] or [`Error::Thread`].
pub fn serve_text(
    option: &'static str,
    address: SocketAddr,
    text: Text,
) -> Result<TextPages, Error> {
    const NAME: &str = "metrics";
    let no_thread = |source| Error::Thread { name: NAME, source };
    let refused = |source| listeners::refusal(option, address, source);
    let listener = listeners::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_io().enable_time().build().map_err(no_thread)?;
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(refused)?
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = async move {
        let (_router, routers) = watch::channel(router(text));
        tokio::select! {
            () = connections::accept(listener, routers, Counters::default()) => {}
            // The handle was dropped.
            _ = stopped => {}
        }
    };
    let thread = std::thread::Builder::new().name(NAME.to_owned());
    let thread = thread.spawn(move || runtime.block_on(serving)).map_err(no_thread)?;
    Ok(TextPages { address, stop: Some(stop), thread: Some(thread) })
}

/// The two pages.
fn router(text: Text) -> Router {
    let metrics = get(move |headers: HeaderMap| async move {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let (content_type, text) = text(accept.unwrap_or_default());
        ([(CONTENT_TYPE, content_type)], text)
    });
    Router::new().route("/metrics", metrics).route("/healthz", get(async || "OK"))
}

impl Drop for TextPages {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It ends at its next await point; a panic in it was told when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn text(accept: &str) -> (&'static str, String) {
        ("text/strange", format!("for {accept}\n"))
    }

    fn served() -> TextPages {
        serve_text("--metrics", "127.0.0.1:0".parse().unwrap(), Arc::new(text)).unwrap()
    }

    fn reply(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\naccept: a/b\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    #[test]
    fn the_text_is_where_prometheus_looks_for_it() {
        let pages = served();
        let metrics = reply(pages.address, "/metrics");
        assert!(metrics.contains("content-type: text/strange\r\n"), "{metrics}");
        assert!(metrics.ends_with("\r\n\r\nfor a/b\n"), "{metrics}");
        assert!(reply(pages.address, "/healthz").ends_with("\r\n\r\nOK"));
        assert!(reply(pages.address, "/").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn an_address_in_use_names_the_option_and_a_dropped_page_frees_it() {
        let pages = served();
        let address = pages.address;
        let error = serve_text("--metrics", address, Arc::new(text)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--metrics {address}: address in use")), "{error}");
        drop(pages);
        let again = serve_text("--metrics", address, Arc::new(text)).unwrap();
        assert_eq!(again.address, address);
    }
}
