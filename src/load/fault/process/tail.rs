//! The last lines of what a process wrote, for error texts; the rest goes on to a file, or nowhere.

use std::collections::VecDeque;
use std::io::{PipeReader, Read, Write};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Lines that are kept.
const LINES_MAX: usize = 20;
/// Octets of a line that are kept.
const LINE_BYTES_MAX: usize = 300;
/// Lines that an error text shows.
const SHOWN_MAX: usize = 3;
/// Octets that are read at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// The last lines.
#[derive(Default)]
pub(super) struct Tail {
    lines: VecDeque<Vec<u8>>,
    /// Whether the last line has not ended.
    is_open: bool,
}

impl Tail {
    /// Adds what was written.
    pub(super) fn push(&mut self, octets: &[u8]) {
        for piece in octets.split_inclusive(|octet| *octet == b'\n') {
            if !self.is_open {
                self.lines.push_back(Vec::new());
            }
            if self.lines.len() > LINES_MAX {
                self.lines.pop_front();
            }
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            self.is_open = text.len() == piece.len();
            if let Some(line) = self.lines.back_mut() {
                let room = LINE_BYTES_MAX - line.len();
                line.extend_from_slice(&text[..text.len().min(room)]);
            }
        }
    }

    /// The last lines as one, for the end of an error text; empty when there is nothing.
    pub(super) fn shown(&self) -> String {
        let lines = self.lines.iter().map(|line| String::from_utf8_lossy(line));
        let mut said: Vec<String> = lines.map(|line| printable(&line)).collect();
        said.retain(|line| !line.is_empty());
        said[said.len().saturating_sub(SHOWN_MAX)..].join(" | ")
    }
}

/// A line without control characters, such as the colours of logs.
fn printable(line: &str) -> String {
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().to_owned()
}

/// Reads until nobody has the other end, on a thread of its own: a busy runtime must not hold up
/// the logs of the server that is measured. The receiver hears when all is read.
pub(super) fn collect(
    mut pipe: PipeReader,
    mut onward: Option<Box<dyn Write + Send>>,
    tail: Arc<Mutex<Tail>>,
) -> std::io::Result<oneshot::Receiver<()>> {
    let (ended, is_ended) = oneshot::channel();
    let read = move || {
        let mut chunk = [0; CHUNK_BYTES];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            tail.lock().push(&chunk[..count]);
            let written =
                onward.as_mut().map_or(Ok(()), |onward| onward.write_all(&chunk[..count]));
            if let Err(error) = written {
                tail.lock().push(format!("\nits output cannot be written: {error}\n").as_bytes());
                onward = None;
            }
        }
        // Nobody may wait any more.
        let _ = ended.send(());
    };
    thread::Builder::new().name("server-output".to_owned()).spawn(read).map(|_| is_ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_on_one() {
        let mut tail = Tail::default();
        assert_eq!(tail.shown(), "");
        for piece in ["a\nb\n", "c", "c\n\n", "\x1b[31md\n", "e"] {
            tail.push(piece.as_bytes());
        }
        assert_eq!(tail.shown(), "cc | [31md | e");
    }

    #[test]
    fn lines_are_bounded_in_length_and_number() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 1000]);
        }
        tail.push(&b"\n".repeat(1000));
        tail.push(&b"y".repeat(1000));
        let kept: usize = tail.lines.iter().map(Vec::len).sum();
        assert_eq!((tail.lines.len(), kept), (LINES_MAX, LINE_BYTES_MAX));
    }
}
