//! The parent's end of the channel to a server, which never waits for it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::listen::kept::{Channel, Message};

/// The channel, and what is still to be sent.
pub struct Line {
    channel: Channel,
    /// The same socket, for the runtime to wait at.
    ready: UnixDatagram,
    /// At most one for each kept socket.
    outgoing: VecDeque<Message>,
    /// The server has closed its end.
    is_over: bool,
}

impl Line {
    /// The parent's end.
    ///
    /// # Errors
    /// The runtime cannot wait for it.
    pub fn new(channel: Channel) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(channel.as_fd().try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        let ready = UnixDatagram::from_std(socket)?;
        Ok(Self { channel, ready, outgoing: VecDeque::new(), is_over: false })
    }

    /// Has a message sent while we wait for the next one.
    pub fn push(&mut self, message: Message) {
        self.outgoing.push_back(message);
    }

    /// The next message; `None` once, when the server has closed its end.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if self.is_over {
                return std::future::pending().await;
            }
            let Self { channel, ready, outgoing, .. } = self;
            let get = ready.async_io(Interest::READABLE, || channel.receive());
            let Some(message) = outgoing.front() else {
                let got = get.await;
                return self.took(got);
            };
            tokio::select! {
                sent = ready.async_io(Interest::WRITABLE, || channel.send(message)) => match sent {
                    Ok(()) => drop(outgoing.pop_front()),
                    // A server that has died takes nothing any more.
                    Err(_) => outgoing.clear(),
                },
                got = get => return self.took(got),
            }
        }
    }

    /// What has come already.
    pub fn rest(&mut self) -> Option<Message> {
        self.channel.receive().ok().flatten()
    }

    fn took(&mut self, got: io::Result<Option<Message>>) -> Option<Message> {
        let message = got.ok().flatten();
        self.is_over = message.is_none();
        message
    }
}
