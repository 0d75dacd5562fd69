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
/// How long another server may take to betray itself.
const TAKEN_AFTER_MAX: Duration = Duration::from_millis(300);

/// Makes sure that nobody answers before the server is started: it could not have that address, and
/// another one would be measured.
///
/// # Errors
/// Somebody does.
pub async fn nobody(address: SocketAddr) -> Result<(), Error> {
    let asking = async {
        let socket = socket(address).await?;
        ask(&socket).await;
        hear(&socket).await;
        Ok(())
    };
    match timeout(TAKEN_AFTER_MAX, asking).await {
        Err(_silence) => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) => Err(Error::Config(format!(
            "--server-command: something answers at {address} before the server is started; end \
             it, or leave out --server-command to test it"
        ))),
    }
}

/// Asks for the name servers of the root until there is any answer to any of the questions.
///
/// # Errors
/// There is none in time, or the server has ended.
pub async fn wait(server: &Server, address: SocketAddr) -> Result<(), Error> {
    let asking = async {
        let socket = socket(address).await?;
        // One socket for all of it: the first answer may have to come from far away.
        loop {
            ask(&socket).await;
            let is_awake = timeout(ASK_EVERY, hear(&socket)).await.is_ok();
            // A server that ends before its first answer would do so again: its words say why. And
            // an answer is not its own then.
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

/// A socket that hears only this address.
async fn socket(address: SocketAddr) -> Result<UdpSocket, Error> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let opened = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        Ok(socket)
    };
    opened.await.map_err(|error| Error::System { what: format!("ask {address}"), error })
}

/// Asks once. That nobody listens yet is no error.
async fn ask(socket: &UdpSocket) {
    let _ = socket.send(&message::question(".", RecordType::NS, None)).await;
}

/// Waits for an answer. Each error is that nobody listened to one question.
async fn hear(socket: &UdpSocket) {
    while socket.recv(&mut [0; 512]).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::process::Output;
    use super::*;

    /// Answers the first question, so much later.
    async fn late(by: Duration) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let (_, asker) = socket.recv_from(&mut [0; 512]).await.unwrap();
            tokio::time::sleep(by).await;
            socket.send_to(b"an answer", asker).await.unwrap();
            std::future::pending::<()>().await;
        });
        address
    }

    #[tokio::test]
    async fn a_server_whose_first_answer_takes_long_is_awake() {
        let address = late(4 * ASK_EVERY).await;
        let server = Server::start("sleep 600", Output::Kept).unwrap();
        wait(&server, address).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_where_somebody_answers_is_not_free() {
        let address = late(Duration::ZERO).await;
        let error = nobody(address).await.unwrap_err().to_string();
        assert!(error.contains("before the server is started; end it"), "{error}");
        // It answers once only.
        nobody(address).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_while_the_server_is_dead_is_of_somebody_else() {
        let address = late(Duration::ZERO).await;
        let server = Server::start("false", Output::Kept).unwrap();
        while server.ended().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let error = wait(&server, address).await.unwrap_err().to_string();
        assert!(error.starts_with("--server-command: false ended"), "{error}");
    }
}
