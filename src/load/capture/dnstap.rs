//! Queries that a server logged itself: dnstap in Frame Streams.
//!
//! ```text
//! data frame       length │ protobuf Dnstap
//! control frame    0 │ length │ type │ (field │ length │ octets)…
//! ```
//!
//! All numbers have four octets, the first one highest. A file is START, data frames, STOP; what
//! was written down from a socket has READY, ACCEPT and FINISH too.

use std::io::{self, ErrorKind, Read};

use prost::Message as _;

use super::{End, Intake, Skip};
use crate::load::tasks::list::Full;

/// Longest data frame: a query and a response of 64 KiB, and what is said of them.
const FRAME_OCTETS_MAX: u32 = 256 * 1024;
/// Longest control frame (as in libfstrm).
const CONTROL_OCTETS_MAX: u32 = 512;
/// What frames must hold.
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// The field of a control frame that tells the content type.
const CONTENT_TYPE_FIELD: u32 = 1;

/// Types of control frames.
const ACCEPT: u32 = 1;
const START: u32 = 2;
const STOP: u32 = 3;
const READY: u32 = 4;
const FINISH: u32 = 5;

/// Messages about a question that came to a server: AUTH_QUERY, CLIENT_QUERY, STUB_QUERY and
/// TOOL_QUERY. What servers ask each other (RESOLVER_QUERY, FORWARDER_QUERY) follows from these.
const QUERIES: [i32; 4] = [1, 5, 9, 11];

/// The envelope, as far as it matters.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dnstap {
    /// What happened.
    #[prost(message, optional, tag = "14")]
    pub message: Option<Message>,
    /// 1 for a message.
    #[prost(int32, tag = "15")]
    pub kind: i32,
}

/// What happened, as far as it matters.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    /// Who asked or answered whom.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The question as it was on the wire.
    #[prost(bytes = "vec", optional, tag = "10")]
    pub query_message: Option<Vec<u8>>,
}

/// Reads frames.
pub(super) fn read(source: impl Read, intake: &mut Intake) -> End {
    let mut frames = Frames { source: io::BufReader::new(source), octets: Vec::new() };
    loop {
        match frames.next() {
            Ok(Frame::End) => return End::Complete,
            Ok(Frame::Control) => {}
            Ok(Frame::Payload) => {
                if take(&frames.octets, intake).is_err() {
                    return End::Full;
                }
            }
            Err(end) => return end,
        }
    }
}

/// Takes the query of a frame, and counts it.
fn take(octets: &[u8], intake: &mut Intake) -> Result<(), Full> {
    let message = Dnstap::decode(octets).ok().and_then(|dnstap| dnstap.message);
    let query = message.filter(|message| QUERIES.contains(&message.kind));
    let outcome = match query.and_then(|message| message.query_message) {
        Some(query) => intake.message(&query)?,
        None => Err(Skip::OtherMessage),
    };
    intake.count(outcome);
    Ok(())
}

/// What a frame is; its octets lie in [`Frames`].
enum Frame {
    Payload,
    Control,
    /// STOP or FINISH, or the end of the file.
    End,
}

/// Frames, one after the other.
struct Frames<R> {
    source: R,
    octets: Vec<u8>,
}

impl<R: io::BufRead> Frames<R> {
    /// Reads a frame.
    fn next(&mut self) -> Result<Frame, End> {
        // A writer that was killed leaves no STOP; the frames are whole nevertheless.
        let Some(length) = self.number_or_end()? else { return Ok(Frame::End) };
        match length {
            0 => self.control(),
            1..=FRAME_OCTETS_MAX => self.fill(length).map(|()| Frame::Payload),
            _ => Err(End::Broken(format!("a frame of {length} octets makes no sense"))),
        }
    }

    /// Reads a control frame.
    fn control(&mut self) -> Result<Frame, End> {
        let length = self.number()?;
        if !(4..=CONTROL_OCTETS_MAX).contains(&length) {
            return Err(End::Broken(format!("a control frame of {length} octets makes no sense")));
        }
        self.fill(length)?;
        let mut rest = &*self.octets;
        match split_number(&mut rest) {
            Some(STOP | FINISH) => Ok(Frame::End),
            Some(READY | ACCEPT | START) => content(rest).map(|()| Frame::Control),
            _ => Err(End::Broken("an unknown control frame".into())),
        }
    }

    /// Reads so many octets.
    fn fill(&mut self, length: u32) -> Result<(), End> {
        self.octets.clear();
        let read = self.source.by_ref().take(u64::from(length)).read_to_end(&mut self.octets);
        match read {
            Ok(read) if read == length as usize => Ok(()),
            Ok(_) => Err(End::Broken("the capture breaks off".into())),
            Err(error) => Err(End::Unreadable(error)),
        }
    }

    /// Reads a number.
    fn number(&mut self) -> Result<u32, End> {
        let mut octets = [0; 4];
        match self.source.read_exact(&mut octets) {
            Ok(()) => Ok(u32::from_be_bytes(octets)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(End::Broken("the capture breaks off".into()))
            }
            Err(error) => Err(End::Unreadable(error)),
        }
    }

    /// Reads a number, or finds the end of the file.
    fn number_or_end(&mut self) -> Result<Option<u32>, End> {
        match self.source.fill_buf() {
            Ok([]) => Ok(None),
            Ok(_) => self.number().map(Some),
            Err(error) => Err(End::Unreadable(error)),
        }
    }
}

/// Whether a control frame announces what we can read; one that says nothing may hold anything.
fn content(mut fields: &[u8]) -> Result<(), End> {
    let (mut is_told, mut is_ours) = (false, false);
    while let Some(field) = split_number(&mut fields) {
        let length = split_number(&mut fields).unwrap_or(u32::MAX) as usize;
        let Some((value, rest)) = fields.split_at_checked(length) else {
            return Err(End::Broken("a broken control frame".into()));
        };
        fields = rest;
        is_told |= field == CONTENT_TYPE_FIELD;
        is_ours |= field == CONTENT_TYPE_FIELD && value == CONTENT_TYPE;
    }
    if is_told && !is_ours {
        return Err(End::Broken("the frames hold no protobuf:dnstap.Dnstap".into()));
    }
    Ok(())
}

/// Takes a number from the front.
fn split_number(octets: &mut &[u8]) -> Option<u32> {
    let (number, rest) = octets.split_first_chunk()?;
    *octets = rest;
    Some(u32::from_be_bytes(*number))
}
