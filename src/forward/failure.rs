//! How one try failed, in the words that operators of CoreDNS know.
//!
//! `read udp 10.1.2.3:45678->10.0.0.2:53: i/o timeout`: patterns of `errors { consolidate }` end
//! in `i/o timeout$`, so a time-out carries no hint behind; all other causes do.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::wire::Ede;

/// The transport to an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proto {
    Udp,
    Tcp,
}

/// What was being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Dial,
    Write,
    Read,
}

/// Why it could not be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    TimedOut,
    /// The other side closed the connection before it had answered.
    Closed,
    /// TC in a response over TCP, where there is nothing larger to ask over.
    Truncated,
    System(io::ErrorKind),
}

/// Both ends of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    pub proto: Proto,
    pub local: Option<SocketAddr>,
    pub remote: SocketAddr,
}

/// One try that ended without a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    pub path: Path,
    pub act: Act,
    pub cause: Cause,
}

impl Path {
    /// The failure of an act on this path.
    pub fn failed(self, act: Act, cause: impl Into<Cause>) -> Failure {
        Failure { path: self, act, cause: cause.into() }
    }
}

impl Failure {
    /// Whether the connection was gone, as an idle one may be.
    pub fn is_closed(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match self.cause {
            Cause::Closed => true,
            Cause::System(kind) => {
                matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset)
            }
            Cause::TimedOut | Cause::Truncated => false,
        }
    }

    /// Whether the network told that the upstream cannot be had. Silence has too many reasons, and
    /// who cuts replies has answered.
    pub fn is_of_network(&self) -> bool {
        matches!(self.cause, Cause::Closed | Cause::System(_))
    }

    /// Whether it is our own: no socket, port or memory to begin with, and nobody was asked.
    pub fn is_local(&self) -> bool {
        use io::ErrorKind as Kind;
        let is_remote = |kind| {
            matches!(
                kind,
                Kind::ConnectionRefused
                    | Kind::ConnectionReset
                    | Kind::ConnectionAborted
                    | Kind::BrokenPipe
                    | Kind::HostUnreachable
                    | Kind::NetworkUnreachable
                    | Kind::NetworkDown
                    | Kind::PermissionDenied
            )
        };
        self.act == Act::Dial && matches!(self.cause, Cause::System(kind) if !is_remote(kind))
    }

    /// What clients are told of it: the kind of failure, and nothing of whom we asked.
    pub fn network_error(&self) -> Ede {
        use io::ErrorKind as Kind;
        Ede::network_error(match self.cause {
            _ if self.is_closed() => "the upstream hung up",
            Cause::System(Kind::ConnectionRefused) => "nothing listens at the upstream",
            Cause::System(Kind::HostUnreachable | Kind::NetworkUnreachable) => {
                "no way to the upstream"
            }
            Cause::System(Kind::PermissionDenied) => "a firewall forbids to ask the upstream",
            _ => "the network failed",
        })
    }

    /// What the operator can do; `None` for a time-out, which has too many reasons.
    pub fn hint(&self) -> Option<&'static str> {
        use io::ErrorKind as Kind;
        match self.cause {
            Cause::TimedOut => None,
            Cause::Closed => Some("the upstream hung up; does it take queries over TCP?"),
            Cause::Truncated => Some("the upstream cuts replies over TCP; use another one"),
            Cause::System(Kind::ConnectionRefused) => {
                Some("nothing listens there; check address and port of this upstream")
            }
            Cause::System(Kind::HostUnreachable | Kind::NetworkUnreachable) => {
                Some("no way there; check the routes and the address family of this upstream")
            }
            Cause::System(Kind::PermissionDenied) => {
                Some("a firewall or network policy forbids it")
            }
            Cause::System(_) => Some("check the network and the file limit of this process"),
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::System(kind),
        }
    }
}

impl Proto {
    /// As in the label `proto` of the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl Act {
    fn as_str(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Write => "write",
            Self::Read => "read",
        }
    }

    /// The system call that failed, as Go names it in front of its error.
    fn call(self) -> &'static str {
        match self {
            Self::Dial => "connect",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}: ", self.act.as_str(), self.path.proto.as_str(), self.path)?;
        match self.cause {
            Cause::TimedOut => f.write_str("i/o timeout")?,
            Cause::Closed => f.write_str("EOF")?,
            Cause::Truncated => f.write_str("truncated response")?,
            Cause::System(kind) => write!(f, "{}: {}", self.act.call(), kind_text(kind))?,
        }
        self.hint().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(local) = self.local {
            write!(f, "{local}->")?;
        }
        write!(f, "{}", self.remote)
    }
}

/// The text of the C library, where CoreDNS prints that, and ours otherwise.
fn kind_text(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_string(),
        io::ErrorKind::HostUnreachable => "no route to host".to_string(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(proto: Proto, local: Option<&str>, act: Act, cause: Cause) -> String {
        let local = local.map(|address| address.parse().unwrap());
        let path = Path { proto, local, remote: "10.0.0.2:53".parse().unwrap() };
        path.failed(act, cause).to_string()
    }

    #[test]
    fn what_we_lack_ourselves_is_no_fault_of_an_upstream() {
        let path = Path { proto: Proto::Udp, local: None, remote: "10.0.0.2:53".parse().unwrap() };
        let failed = |act, errno| path.failed(act, io::Error::from_raw_os_error(errno));
        for (name, errno) in [("EMFILE", 24), ("ENOBUFS", 105), ("EADDRNOTAVAIL", 99)] {
            assert!(failed(Act::Dial, errno).is_local(), "{name}");
        }
        for (name, errno) in [("ECONNREFUSED", 111), ("EHOSTUNREACH", 113), ("ENETUNREACH", 101)] {
            assert!(!failed(Act::Dial, errno).is_local(), "{name}");
        }
        assert!(!failed(Act::Read, 105).is_local(), "it was asked");
    }

    #[test]
    fn clients_are_told_how_the_network_failed() {
        use io::ErrorKind as Kind;
        let path = Path { proto: Proto::Udp, local: None, remote: "10.0.0.2:53".parse().unwrap() };
        let told = |cause: Cause| {
            let failure = path.failed(Act::Read, cause);
            failure.is_of_network().then(|| failure.network_error().text)
        };
        for (kind, text) in [
            (Kind::ConnectionRefused, "nothing listens at the upstream"),
            (Kind::HostUnreachable, "no way to the upstream"),
            (Kind::NetworkUnreachable, "no way to the upstream"),
            (Kind::ConnectionReset, "the upstream hung up"),
            (Kind::UnexpectedEof, "the upstream hung up"),
            (Kind::PermissionDenied, "a firewall forbids to ask the upstream"),
            (Kind::AddrNotAvailable, "the network failed"),
        ] {
            assert_eq!(told(io::Error::from(kind).into()), Some(text), "{kind}");
        }
        assert_eq!(told(Cause::TimedOut), None, "silence has too many reasons");
        assert_eq!(told(Cause::Truncated), None, "it has answered");
    }

    #[test]
    fn failures_read_as_those_of_coredns() {
        let local = Some("10.1.2.3:45678");
        assert_eq!(
            failure(Proto::Udp, local, Act::Read, Cause::TimedOut),
            "read udp 10.1.2.3:45678->10.0.0.2:53: i/o timeout"
        );
        let refused = Cause::System(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            failure(Proto::Udp, local, Act::Read, refused),
            "read udp 10.1.2.3:45678->10.0.0.2:53: read: connection refused; nothing listens \
             there; check address and port of this upstream"
        );
        assert!(
            failure(Proto::Tcp, None, Act::Dial, refused)
                .starts_with("dial tcp 10.0.0.2:53: connect: connection refused; ")
        );
    }
}
