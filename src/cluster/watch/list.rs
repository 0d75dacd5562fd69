//! A full list: as a stream where the server can, in pages where it cannot.
//!
//! ```text
//! streaming ──► ADDED… BOOKMARK(initial-events-end) ──► goes on as the watch
//!     │ refused, or no such bookmark in time
//!     ▼
//! pages ──► 500 objects + continue token, … ──► a watch from the version of the list
//! ```

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::cluster::watch::lines::{Line, Lines};
use crate::cluster::watch::trouble::Trouble;
use crate::cluster::watch::{Taken, Watcher};

/// Objects per page: fewer than client-go's 500, because an EndpointSlice takes up to 40 KiB and a
/// page is held whole while it is read.
pub(super) const PAGE_SIZE: u32 = 200;
/// Objects per page, when pages are too large.
const PAGE_SIZE_MIN: u32 = 10;

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
        if self.style == Style::Pages {
            return self.list_pages().await.map(|()| None);
        }
        let why = match self.list_streaming().await {
            Ok(lines) => return Ok(Some(lines)),
            Err(why @ (Trouble::Refused { .. } | Trouble::Stalled(_) | Trouble::Ended)) => why,
            Err(other) => return Err(other),
        };
        tracing::info!(resource = self.resource(), "no streaming list ({why}); using pages");
        self.list_pages().await?;
        // A stream that merely ended says nothing about what the server can do.
        if !matches!(why, Trouble::Ended) {
            self.style = Style::Pages;
        }
        Ok(None)
    }

    /// Lists as a stream; the stream goes on with changes.
    async fn list_streaming(&mut self) -> Result<Lines, Trouble> {
        let mut lines = self.api.stream().await?;
        self.begin_list().await?;
        // A busy server that ignores the flag sends changes for ever, so progress is not enough.
        let deadline = Instant::now() + self.timing.streaming;
        while Instant::now() < deadline {
            match lines.next(self.timing.progress).await? {
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

    /// Lists page by page.
    async fn list_pages(&mut self) -> Result<(), Trouble> {
        self.begin_list().await?;
        let mut token: Option<String> = None;
        loop {
            let page = self.api.page(self.page_size, token.as_deref()).await;
            if let Err(Trouble::PageTooLarge(_)) = page {
                self.page_size = (self.page_size / 2).max(PAGE_SIZE_MIN);
            }
            let body = page?;
            let page: Page<'_> = serde_json::from_slice(&body)
                .map_err(|error| Trouble::Garbage(format!("a page of the list: {error}")))?;
            for item in page.items.unwrap_or_default() {
                self.apply(item.get()).await?;
            }
            token = page.metadata.token.filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return self.end_list(page.metadata.resource_version).await;
            }
        }
    }

    /// Opens the list towards the Index.
    async fn begin_list(&mut self) -> Result<(), Trouble> {
        self.seen.begin(self.passed.as_deref());
        Ok(self.outlet.begin(self.kind).await?)
    }

    /// Closes the list at `version`, from where a watch can go on.
    async fn end_list(&mut self, version: &str) -> Result<(), Trouble> {
        if version.is_empty() {
            return Err(Trouble::Garbage("a list without a resource version".into()));
        }
        self.outlet.end(self.kind).await?;
        self.seen.end();
        self.stand_at(version);
        let now = Instant::now();
        self.feed.hear(self.kind, now);
        if self.feed.kind(self.kind).relists.value() == 0 {
            tracing::info!(resource = self.resource(), version, "first list is complete");
        }
        self.recover_lack();
        self.feed.kind(self.kind).listed();
        self.listed_at = Some(now);
        self.reconcile_at = now + self.timing.reconcile.mul_f64(rand::random_range(0.9..1.1));
        Ok(())
    }
}
