//! Upstreams for tests, on loopback ports that the kernel chooses.
//!
//! Two kinds: [`LoopbackUpstream::honest`] is hickory-server and answers what is right;
//! [`LoopbackUpstream::scripted`] sends the octets that a test wants, right or not.
//! Both note what they were asked. This file knows nothing of the crate, so that unit tests and
//! integration tests can include it by path.
#![allow(dead_code)] // Each test file uses its own part.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Metadata, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType, rdata::A};
use hickory_server::Server;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

#[path = "closed.rs"]
#[allow(clippy::duplicate_mod)] // Unit tests have it for upstreams and for resolvers.
mod closed;

use closed::Closed;

/// What every A question is answered with.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    Udp,
    Tcp,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub over: Over,
    pub from: SocketAddr,
    pub packet: Vec<u8>,
}

/// What a scripted upstream does next.
#[derive(Clone, Debug)]
pub enum Act {
    Send(Vec<u8>),
    /// Takes this long before the next act. Others wait meanwhile.
    Pause(Duration),
    /// Closes the connection; nothing over UDP.
    HangUp,
}

type Script = dyn Fn(&Asked) -> Vec<Act> + Send + Sync;

/// An upstream that lives as long as this value.
pub struct LoopbackUpstream {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _honest: Option<Server<Honest>>,
    _scripted: JoinSet<()>,
}

impl LoopbackUpstream {
    /// Answers every A question with [`ADDRESS`], all else with NXDOMAIN, over UDP and TCP.
    pub async fn honest() -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let asked = Arc::default();
        let mut server = Server::new(Honest { asked: Arc::clone(&asked) });
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(60), 65_535);
        Self { address, asked, _honest: Some(server), _scripted: JoinSet::new() }
    }

    /// Does what the script says, over UDP and TCP.
    pub async fn scripted(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets().await;
        Self::run(udp, Some(tcp), Arc::new(script))
    }

    /// Does what the script says over UDP; nothing listens for TCP.
    pub async fn udp_only(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let (udp, _) = sockets().await;
        Self::run(udp, None, Arc::new(script))
    }

    /// Takes everything and answers nothing.
    pub async fn silent() -> Self {
        Self::scripted(|_| Vec::new()).await
    }

    /// An address where nothing listens, as long as this value lives.
    pub fn refused() -> Closed {
        Closed::new()
    }

    /// What arrived so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many requests arrived over this transport.
    pub fn count(&self, over: Over) -> usize {
        self.asked().iter().filter(|asked| asked.over == over).count()
    }

    fn run(udp: UdpSocket, tcp: Option<TcpListener>, script: Arc<Script>) -> Self {
        let address = udp.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, script.clone(), asked.clone()));
        if let Some(tcp) = tcp {
            tasks.spawn(serve_tcp(tcp, script, asked.clone()));
        }
        Self { address, asked, _honest: None, _scripted: tasks }
    }
}

/// The right response to a request, for scripts that lie first.
pub fn good(request: &[u8]) -> Vec<u8> {
    let request = Message::from_vec(request).unwrap();
    let question = &request.queries[0];
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    if question.query_type() == RecordType::A {
        response.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A(ADDRESS))));
    }
    if let Some(edns) = request.edns {
        response.set_edns(edns);
    }
    response.to_vec().unwrap()
}

/// A response without records: these flags, this code, OPT only if `keeps_opt`.
pub fn bare(request: &[u8], rcode: u8, keeps_opt: bool) -> Vec<u8> {
    let mut message = Message::from_vec(request).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.metadata.response_code = ResponseCode::from(0, rcode);
    if !keeps_opt {
        message.edns = None;
    }
    message.to_vec().unwrap()
}

/// The right response, cut: TC and no records.
pub fn truncated(request: &[u8]) -> Vec<u8> {
    let mut message = Message::from_vec(&good(request)).unwrap();
    message.answers.clear();
    message.metadata.truncation = true;
    message.to_vec().unwrap()
}

/// A UDP socket and a TCP listener on the same port.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // Somebody else may have the port for TCP; the next one is free soon.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: UdpSocket, script: Arc<Script>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let request = Asked { over: Over::Udp, from, packet: buffer[..length].to_vec() };
        asked.lock().unwrap().push(request.clone());
        for act in script(&request) {
            match act {
                // The asker may be gone, as askers are.
                Act::Send(message) => drop(socket.send_to(&message, from).await),
                Act::Pause(pause) => tokio::time::sleep(pause).await,
                Act::HangUp => {}
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, script: Arc<Script>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, from) = listener.accept().await.unwrap();
        connections.spawn(serve_connection(stream, from, script.clone(), asked.clone()));
    }
}

/// Serves until somebody hangs up.
async fn serve_connection(
    mut stream: TcpStream,
    from: SocketAddr,
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    while let Ok(length) = stream.read_u16().await {
        let mut packet = vec![0; usize::from(length)];
        stream.read_exact(&mut packet).await.unwrap();
        let request = Asked { over: Over::Tcp, from, packet };
        asked.lock().unwrap().push(request.clone());
        for act in script(&request) {
            match act {
                Act::Send(message) => {
                    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
                    framed.extend(message);
                    drop(stream.write_all(&framed).await);
                }
                Act::Pause(pause) => tokio::time::sleep(pause).await,
                Act::HangUp => return,
            }
        }
    }
}

/// Answers through hickory-server.
struct Honest {
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[async_trait::async_trait]
impl RequestHandler for Honest {
    async fn handle_request<R: ResponseHandler, T: hickory_server::net::runtime::Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let over = match request.protocol() {
            hickory_server::net::xfer::Protocol::Udp => Over::Udp,
            _ => Over::Tcp,
        };
        let packet = request.as_slice().to_vec();
        self.asked.lock().unwrap().push(Asked { over, from: request.src(), packet });
        let question = request.request_info().unwrap().query.original().clone();
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let mut answers = Vec::new();
        if question.query_type() == RecordType::A {
            let address = RData::A(A(ADDRESS));
            answers.push(Record::from_rdata(question.name().clone(), 60, address));
        } else {
            metadata.response_code = ResponseCode::NXDomain;
        }
        let none = || std::iter::empty::<&Record>();
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            answers.iter(),
            none(),
            none(),
            none(),
        );
        response_handle.send_response(response).await.unwrap()
    }
}
