//! A full list: as a stream where the server can, in pages where it cannot.
//!
//! ```text
//! streaming ──► ADDED… BOOKMARK(initial-events-end) ──► goes on as the watch
//!     │ refused, or no such bookmark in time
//!     ▼
//! pages ──► 500 objects + continue token, … ──► a watch from the version of the list
//! ```

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use crate::cluster::watch::backoff::Backoff;
use crate::cluster::watch::lines::{Line, Lines};
use crate::cluster::watch::trouble::Trouble;
use crate::cluster::watch::{Taken, Watcher};

/// Objects per page: fewer than client-go's 500, because an EndpointSlice takes up to 40 KiB and a
/// page is held whole while it is read.
pub(super) const PAGE_SIZE: u32 = 200;
/// Objects per page, when pages are too large.
const PAGE_SIZE_MIN: u32 = 10;

/// Tries for a page in the middle of a list. The token of the next page lasts for five minutes.
const PAGE_TRIES_MAX: u32 = 5;
/// Time that each full list of a kind takes of those to come: two may come at once, and then one
/// in this time.
pub(super) const LIST_PAUSE: Duration = Duration::from_secs(30);

/// How a server gives full lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    Streaming,
    Pages,
}

/// A page of a list; its items stay text, as in an event.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    metadata: PageMetadata<'a>,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// The version of the list, and the token of its next page.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata<'a> {
    resource_version: &'a str,
    #[serde(borrow, rename = "continue")]
    token: Option<&'a str>,
}

impl Watcher {
    /// Lists all objects; returns the stream that goes on with changes, if the list was one.
    pub(super) async fn list(&mut self) -> Result<Option<Lines>, Trouble> {
        self.lose_patience();
        if self.style == Style::Pages {
            return self.list_pages().await.map(|()| None);
        }
        let why = match self.list_streaming().await {
            Ok(lines) => return Ok(Some(lines)),
            // The watch can go on, and does before all is asked for once more.
            Err(why @ Trouble::Stalled(_)) if self.is_first_put_off() => return Err(why),
            Err(
                why @ (Trouble::Refused { .. }
                | Trouble::Stalled(_)
                | Trouble::Ended
                | Trouble::Suspect(_)),
            ) => why,
            Err(other) => return Err(other),
        };
        tracing::info!(resource = self.resource(), "no streaming list ({why}); using pages");
        self.list_pages().await?;
        // A stream that merely ended, or was not believed, says nothing of what the server can do.
        if matches!(why, Trouble::Refused { .. } | Trouble::Stalled(_)) {
            self.style = Style::Pages;
        }
        Ok(None)
    }

    /// Lists as a stream; the stream goes on with changes.
    async fn list_streaming(&mut self) -> Result<Lines, Trouble> {
        let mut lines = self.api.within(self.patience()).stream(self.not_older()).await?;
        self.begin_list().await?;
        let patience = match self.listed_at {
            None => self.timing.progress,
            Some(_) => self.patience(),
        };
        // A busy server that ignores the flag sends changes for ever, so progress is not enough.
        let deadline = Instant::now() + self.timing.streaming;
        while Instant::now() < deadline {
            match lines.next(patience).await? {
                Line::End => return Err(Trouble::Ended),
                Line::TooLong => self.doubt("a line is too long"),
                Line::Text(line) => {
                    if let Taken::Bookmark(mark) = self.take(line).await?
                        && mark.ends_list
                    {
                        self.end_list(&mark.version).await?;
                        return Ok(lines);
                    }
                }
            }
        }
        Err(Trouble::Stalled(self.timing.streaming))
    }

    /// How long a piece of a list is waited for: a short time at first where a watch could go on
    /// meanwhile, and as long as for any answer once the list did not come. The pauses between
    /// grow, so that little is missed.
    fn patience(&self) -> Duration {
        if self.is_first_put_off() { self.timing.due } else { self.timing.answer }
    }

    /// Whether a watch can go on, and no list was put off since the last one.
    fn is_first_put_off(&self) -> bool {
        self.version.is_some() && self.put_offs.failures() == 0
    }

    /// Lists page by page.
    async fn list_pages(&mut self) -> Result<(), Trouble> {
        self.begin_list().await?;
        let mut token: Option<String> = None;
        loop {
            let body = self.page(token.as_deref()).await?;
            let page: Page<'_> = serde_json::from_slice(&body)
                .map_err(|error| Trouble::Garbage(format!("a page of the list: {error}")))?;
            // Before anything of it is taken: nothing older may get in.
            self.believe(page.metadata.resource_version)?;
            // A list of many pages takes minutes, and each of them is a word.
            self.feed.hear(self.kind, Instant::now());
            self.doubts.is_proven = true;
            for item in page.items.unwrap_or_default() {
                self.apply(item.get()).await?;
            }
            token = page.metadata.token.filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                self.page_size = (self.page_size * 2).min(PAGE_SIZE);
                return self.end_list(page.metadata.resource_version).await;
            }
        }
    }

    /// Asks for a page. A server that fails in the middle of a list is asked again for less, and
    /// the list goes on.
    async fn page(&mut self, token: Option<&str>) -> Result<Vec<u8>, Trouble> {
        let mut tries = Backoff::new(self.timing.backoff.0, self.timing.backoff.1);
        loop {
            let api = self.api.within(self.patience());
            let asked = api.page(self.page_size, token, self.not_older()).await;
            let Err(why) = asked else { return asked };
            if !why.asks_for_less() {
                return Err(why);
            }
            self.page_size = (self.page_size / 2).max(PAGE_SIZE_MIN);
            if token.is_none() || tries.failures() >= PAGE_TRIES_MAX {
                return Err(why);
            }
            self.note(&why).await;
            sleep(why.wait(tries.fail())).await;
        }
    }

    /// Opens the list towards the Index.
    async fn begin_list(&mut self) -> Result<(), Trouble> {
        self.begin_to_doubt();
        self.seen.begin(self.passed.as_deref());
        let now = Instant::now();
        self.lists_full_at = self.lists_full_at.max(now) + LIST_PAUSE;
        Ok(self.outlet.begin(self.kind).await?)
    }

    /// Closes the list at `version`, from where a watch can go on.
    async fn end_list(&mut self, version: &str) -> Result<(), Trouble> {
        if version.is_empty() {
            return Err(Trouble::Garbage("a list without a resource version".into()));
        }
        self.believe(version)?;
        self.pass_suspects_on().await?;
        self.outlet.end(self.kind).await?;
        let gone = self.seen.end();
        // Nothing happened between the last word of the watch and the list.
        let is_same = self.passed.as_deref() == Some(version);
        self.stand_at(version);
        let now = Instant::now();
        self.feed.hear(self.kind, now);
        if self.feed.kind(self.kind).relists.value() == 0 {
            tracing::info!(resource = self.resource(), version, "first list is complete");
        }
        self.recover_lack();
        self.was_silent = false;
        self.feed.kind(self.kind).listed();
        self.listed_at = Some(now);
        self.put_offs.succeed();
        let has_repaired = self.end_doubt(gone, is_same);
        let pause = if has_repaired { self.timing.doubt } else { self.timing.reconcile };
        self.reconcile_at = now + pause.mul_f64(rand::random_range(0.9..1.1));
        Ok(())
    }

    /// How long full lists of a server that forgets at once are held off: they are dear, and what
    /// is known is served meanwhile.
    pub(super) fn until_list(&self) -> Duration {
        let is_needed = self.version.is_none() && self.listed_at.is_some();
        if !is_needed || self.doubts.is_refusing() {
            return Duration::ZERO;
        }
        let pause = self.list_again_at().saturating_duration_since(Instant::now());
        pause.mul_f64(spread())
    }

    /// Has the next full list come as soon as it may, for something is wrong; but not sooner than
    /// after the pause where the last one did not come.
    pub(super) fn list_soon(&mut self, at: Instant) {
        if self.put_offs.failures() == 0 {
            self.reconcile_at = self.reconcile_at.min(at.max(self.list_again_at()));
        }
    }

    /// When the next full list may begin.
    pub(super) fn list_again_at(&self) -> Instant {
        self.lists_full_at.checked_sub(LIST_PAUSE).unwrap_or(self.lists_full_at)
    }

    /// A list that was due has failed. The watch goes on, and the list is tried later: ever later
    /// where it did not come, for nothing is heard of changes while it is waited for.
    pub(super) async fn put_off(&mut self, why: Trouble) -> Result<(), Trouble> {
        if self.seen.is_listing() {
            self.outlet.give_up(self.kind).await?;
        }
        self.seen.break_off();
        self.note(&why).await;
        let pause = match why {
            Trouble::Stalled(_) | Trouble::Unreachable(_) => self.put_offs.fail(),
            _ => LIST_PAUSE,
        };
        self.reconcile_at = Instant::now() + pause.mul_f64(spread());
        Ok(())
    }
}

/// Makes a pause longer, so that replicas do not list together.
fn spread() -> f64 {
    rand::random_range(1.0..1.2)
}
