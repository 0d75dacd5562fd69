//! The lines of a watch: one JSON event each, cut out of a body that arrives in any pieces.

use std::ops::Range;
use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use memchr::memchr;

use crate::cluster::watch::trouble::{Trouble, chain};

/// Longest line, in bytes. etcd takes objects up to 1.5 MiB, and JSON with escapes makes a few
/// times that of them. A longer line is skipped: it costs its object, not the stream.
pub(super) const LINE_MAX: usize = 16 * 1024 * 1024;
/// What a buffer may keep while it is empty.
const IDLE_MAX: usize = 256 * 1024;

/// The open stream of a watch.
pub(super) struct Lines {
    body: Body,
    buffer: Buffer,
}

/// What comes next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Line<'a> {
    Text(&'a [u8]),
    /// A line over [`LINE_MAX`] was skipped.
    TooLong,
    /// The server ended the stream after a whole line.
    End,
}

impl Lines {
    /// The lines of a body.
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: Buffer::new(LINE_MAX) }
    }

    /// Waits for the next line, as long as something arrives every `patience`.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<Line<'_>, Trouble> {
        loop {
            match self.buffer.next() {
                Some(Piece::TooLong) => return Ok(Line::TooLong),
                Some(Piece::Line(range)) => return Ok(Line::Text(&self.buffer.bytes[range])),
                None => {}
            }
            if !self.fill(patience).await? {
                return Ok(Line::End);
            }
        }
    }

    /// Adds the next piece of the body to the buffer; false when there is none.
    async fn fill(&mut self, patience: Duration) -> Result<bool, Trouble> {
        let frame = tokio::time::timeout(patience, self.body.frame()).await;
        match frame.map_err(|_| Trouble::Stalled(patience))? {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    self.buffer.push(bytes);
                }
                Ok(true)
            }
            Some(Err(error)) => Err(Trouble::Cut(chain(&error))),
            None if self.buffer.is_inside_line() => Err(Trouble::Cut("inside of a line".into())),
            None => Ok(false),
        }
    }
}

/// Bytes that have arrived and not been taken yet.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// Everything before has been given out.
    taken: usize,
    /// There is no line feed between `taken` and here.
    searched: usize,
    /// The rest of the current line belongs to one that is too long.
    skipping: bool,
    line_max: usize,
}

/// A finding in the buffer.
#[derive(PartialEq, Eq, Debug)]
enum Piece {
    Line(Range<usize>),
    TooLong,
}

impl Buffer {
    /// An empty buffer for lines of at most `line_max` bytes.
    fn new(line_max: usize) -> Self {
        Self { bytes: Vec::new(), taken: 0, searched: 0, skipping: false, line_max }
    }

    /// Appends a piece, in the room of what was given out.
    fn push(&mut self, more: &[u8]) {
        self.bytes.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(IDLE_MAX);
        }
        self.bytes.extend_from_slice(more);
    }

    /// The next finding; empty lines are none.
    fn next(&mut self) -> Option<Piece> {
        loop {
            let unseen = &self.bytes[self.searched..];
            let Some(length) = memchr(b'\n', unseen) else {
                return self.starve();
            };
            let line = self.taken..self.searched + length;
            self.taken = line.end + 1;
            self.searched = self.taken;
            let is_rest_of_skipped = std::mem::take(&mut self.skipping);
            if !is_rest_of_skipped && line.len() > self.line_max {
                return Some(Piece::TooLong);
            }
            if !is_rest_of_skipped && !line.is_empty() {
                return Some(Piece::Line(line));
            }
        }
    }

    /// There is no line feed: what is here is the begin of a line, or of one that is too long.
    fn starve(&mut self) -> Option<Piece> {
        self.searched = self.bytes.len();
        let is_too_long = self.searched - self.taken > self.line_max;
        if is_too_long || self.skipping {
            self.taken = self.searched;
        }
        let is_news = is_too_long && !self.skipping;
        self.skipping |= is_too_long;
        is_news.then_some(Piece::TooLong)
    }

    /// Whether a line has begun and not ended.
    fn is_inside_line(&self) -> bool {
        self.skipping || self.taken < self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All findings of `pieces`, lines as text and `TooLong` as `None`.
    fn read(pieces: &[&[u8]], line_max: usize) -> Vec<Option<String>> {
        let mut buffer = Buffer::new(line_max);
        let mut found = Vec::new();
        for piece in pieces {
            buffer.push(piece);
            while let Some(next) = buffer.next() {
                found.push(match next {
                    Piece::Line(at) => {
                        Some(String::from_utf8_lossy(&buffer.bytes[at]).into_owned())
                    }
                    Piece::TooLong => None,
                });
            }
        }
        found
    }

    fn text(line: &str) -> Option<String> {
        Some(line.to_owned())
    }

    #[test]
    fn lines_are_found_across_pieces_and_empty_ones_left_out() {
        assert_eq!(
            read(&[b"ab", b"c\nd", b"\n\n", b"e\n", b"rest"], 9),
            [text("abc"), text("d"), text("e")]
        );
    }

    #[test]
    fn a_line_that_is_too_long_costs_only_itself() {
        assert_eq!(read(&[b"1234\n12345\n123\n"], 4), [text("1234"), None, text("123")]);
        assert_eq!(read(&[b"123", b"456", b"789", b"\n12\n"], 4), [None, text("12")]);
    }

    #[test]
    fn a_line_that_is_too_long_does_not_grow_the_buffer() {
        let mut buffer = Buffer::new(10);
        for _ in 0..1000 {
            buffer.push(&[b'x'; 100]);
            while buffer.next().is_some() {}
        }
        assert!(buffer.bytes.capacity() < 1000);
        assert!(buffer.is_inside_line());
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            body in "[ab\n]{0,60}",
            cuts in prop::collection::vec(0_usize..60, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(body.len())).collect();
            cuts.sort_unstable();
            cuts.push(body.len());
            let mut start = 0;
            let pieces: Vec<_> = cuts.into_iter().map(|end| {
                let piece = &body.as_bytes()[start..end];
                start = end;
                piece
            }).collect();
            prop_assert_eq!(read(&pieces, 7), read(&[body.as_bytes()], 7));
        }
    }
}
