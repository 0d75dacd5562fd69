//! Waits until a server that was just started answers, whatever it says; before that, nobody may.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::Error;
use super::fault::process::Server;
use crate::wire::{RecordType, message};

/// How long a server may take from its start to its first answer.
const AWAKE_MAX: Duration = Duration::from_secs(60);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Sees to it that nobody answers yet: else another server would be measured, and faults would do
/// nothing to it.
///
/// # Errors
/// Somebody does.
pub async fn nobody(address: SocketAddr) -> Result<(), Error> {
    match answers(address).await {
        false => Ok(()),
        true => Err(Error::Config(format!(
            "--server-command: {address} answers before the server is started; end what listens \
             there, or leave the option out"
        ))),
    }
}

/// Asks for the name servers of the root until there is an answer.
///
/// # Errors
/// There is none in time, or the server has ended.
pub async fn wait(server: &Server, address: SocketAddr) -> Result<(), Error> {
    let asking = async {
        loop {
            let is_awake = answers(address).await;
            // A server that ends before its first answer would do so again: its words say why.
            if let Some(why) = server.ended() {
                return Err(Error::Config(format!("--server-command: {why}")));
            }
            if is_awake {
                return Ok(());
            }
        }
    };
    timeout(AWAKE_MAX, asking).await.unwrap_or_else(|_| {
        Err(Error::Config(format!(
            "--server-command: nothing answers at {address} after {AWAKE_MAX:?}; does the server \
             listen there?"
        )))
    })
}

/// Asks once.
async fn answers(address: SocketAddr) -> bool {
    let ask = async {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        socket.send(&message::question(".", RecordType::NS, None)).await?;
        socket.recv(&mut [0; 512]).await
    };
    // A port that is not open yet answers at once: wait as long as for silence.
    let pause = tokio::time::sleep(ASK_EVERY);
    match timeout(ASK_EVERY, ask).await {
        Ok(Ok(_)) => true,
        Ok(Err(_)) => {
            pause.await;
            false
        }
        Err(_) => false,
    }
}
