//! What ends a list or a watch, and how the answer of the API server is told apart.

use std::error::Error;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use serde::Deserialize;

use crate::cluster::feed::Fault;
use crate::cluster::outlet::Hangup;

/// Why a list or a watch ended. Each has its own way to go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The server ended the watch at its time. No fault.
    #[error("the watch has ended")]
    Ended,
    /// It is time for a full list. No fault.
    #[error("a full list is due")]
    Due,
    /// Nobody takes our Changes any more. The only end for good.
    #[error("the index is gone")]
    Hangup,
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the API server does not accept our credentials (401: {0})")]
    Unauthorized(String),
    #[error("the API server does not allow it (403: {0})")]
    Forbidden(String),
    #[error("the API server does not have it (404: {0})")]
    Absent(String),
    #[error("the API server asks us to slow down (429)")]
    Throttled(Option<Duration>),
    #[error("the API server has forgotten our resource version (410: {0})")]
    Expired(String),
    #[error("the API server refuses the request ({code}: {message})")]
    Refused { code: u16, message: String },
    #[error("the API server fails ({code}: {message})")]
    Server { code: u16, message: String },
    #[error("the connection broke: {0}")]
    Cut(String),
    #[error("what the API server sent cannot be read: {0}")]
    Garbage(String),
    #[error("nothing has arrived for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    #[error("resource version {got} came after {had}")]
    Backwards { had: String, got: String },
    #[error("the list is of version {got}, older than {had} of the watch")]
    Older { had: String, got: String },
    /// A streaming list has many objects that the watch had passed and did not tell of. In pages it
    /// shows at once how old it is.
    #[error("the list has more than {0} objects that the watch did not tell of")]
    Suspect(usize),
    /// A page of a list exceeded its bound. Smaller pages are asked for then.
    #[error("a page of the list is larger than {0} bytes")]
    PageTooLarge(usize),
}

/// Longest wait that a server may ask for with Retry-After.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);
/// Most of a server's message that is repeated in our log, in characters.
const MESSAGE_MAX: usize = 300;

/// The `Status` of the API server, in answers and in ERROR events.
#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
    message: Option<String>,
}

impl Trouble {
    /// The fault to count; none for what is normal.
    pub(super) fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::Ended | Self::Due | Self::Hangup => return None,
            Self::Unreachable(_) => Fault::Unreachable,
            Self::Unauthorized(_) => Fault::Unauthorized,
            Self::Forbidden(_) => Fault::Forbidden,
            Self::Throttled(_) => Fault::Throttled,
            Self::Expired(_) => Fault::Expired,
            Self::Absent(_) | Self::Refused { .. } => Fault::Refused,
            Self::Server { .. } => Fault::Server,
            Self::Cut(_) => Fault::Cut,
            Self::Garbage(_) | Self::PageTooLarge(_) => Fault::Garbage,
            Self::Stalled(_) => Fault::Stalled,
            Self::Backwards { .. } | Self::Older { .. } => Fault::Backwards,
            Self::Suspect(_) => Fault::Omitted,
        })
    }

    /// The wait before the next try: ours, or that of a server that asks for more.
    pub(super) fn wait(&self, ours: Duration) -> Duration {
        match self {
            Self::Throttled(Some(after)) => ours.max((*after).min(RETRY_AFTER_MAX)),
            _ => ours,
        }
    }

    /// Whether a smaller page may help.
    pub(super) fn asks_for_less(&self) -> bool {
        matches!(
            self,
            Self::Throttled(_)
                | Self::Server { .. }
                | Self::Stalled(_)
                | Self::Cut(_)
                | Self::Unreachable(_)
                | Self::PageTooLarge(_)
        )
    }

    /// Reads an HTTP answer other than 200.
    pub(super) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let parsed: Option<Status> = serde_json::from_slice(body).ok();
        let message = parsed.and_then(|status| status.message);
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        Self::from_code(status.as_u16(), &message, retry_after(headers))
    }

    /// Reads the object of an ERROR event.
    pub(super) fn from_event(json: &str) -> Self {
        match serde_json::from_str(json) {
            Ok(Status { code: Some(code), message }) => {
                Self::from_code(code, &message.unwrap_or_default(), None)
            }
            _ => Self::Garbage(format!("an ERROR event without a code: {}", short(json))),
        }
    }

    /// Sorts by who must act.
    fn from_code(code: u16, message: &str, after: Option<Duration>) -> Self {
        let message = short(message);
        match code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            404 => Self::Absent(message),
            410 => Self::Expired(message),
            429 => Self::Throttled(after),
            400..500 => Self::Refused { code, message },
            _ => Self::Server { code, message },
        }
    }
}

impl From<Hangup> for Trouble {
    fn from(_: Hangup) -> Self {
        Self::Hangup
    }
}

/// The seconds form of Retry-After (RFC 9110 §10.2.3); API servers do not send dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// One line of at most [`MESSAGE_MAX`] characters.
fn short(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.chars().take(MESSAGE_MAX).collect()
}

/// An error with its causes: the outermost alone only says "client error".
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    short(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, body: &str) -> Option<Fault> {
        let status = StatusCode::from_u16(code).unwrap();
        Trouble::from_answer(status, &HeaderMap::new(), body.as_bytes()).fault()
    }

    #[test]
    fn every_answer_has_its_fault() {
        let faults =
            [401, 403, 410, 429, 400, 404, 422, 500, 504, 302].map(|code| answer(code, ""));
        assert_eq!(
            faults,
            [
                Some(Fault::Unauthorized),
                Some(Fault::Forbidden),
                Some(Fault::Expired),
                Some(Fault::Throttled),
                Some(Fault::Refused),
                Some(Fault::Refused),
                Some(Fault::Refused),
                Some(Fault::Server),
                Some(Fault::Server),
                Some(Fault::Server),
            ]
        );
    }

    #[test]
    fn the_message_of_the_status_is_told_and_kept_short() {
        let body = format!(r#"{{"kind":"Status","message":"a\nb{}"}}"#, "x".repeat(1000));
        let trouble =
            Trouble::from_answer(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes());
        let text = trouble.to_string();
        assert!(text.starts_with("the API server refuses the request (400: a bxx"), "{text}");
        assert!(text.len() < 400);
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn an_error_event_without_a_code_is_garbage() {
        for json in ["{}", "[]", "null", r#"{"code":"410"}"#] {
            assert_eq!(Trouble::from_event(json).fault(), Some(Fault::Garbage), "{json}");
        }
        assert_eq!(Trouble::from_event(r#"{"code":410}"#).fault(), Some(Fault::Expired));
    }
}
