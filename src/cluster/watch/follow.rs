//! Following a watch: one event per line, into Changes.

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::cluster::outlet::Hangup;
use crate::cluster::read::{Flaw, Found, Reading, read, read_bookmark, read_endpoints, read_head};
use crate::cluster::watch::api::Resource;
use crate::cluster::watch::lines::{Line, Lines};
use crate::cluster::watch::seen::number;
use crate::cluster::watch::trouble::Trouble;
use crate::cluster::watch::{Taken, Watcher};

/// One line. The object stays text until its type is known: a bad one costs only itself.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Watcher {
    /// Takes events until the stream ends, and tells why it did.
    pub(super) async fn follow(&mut self, mut lines: Lines) -> Trouble {
        let opened = Instant::now();
        let mut has_heard = false;
        let following = self.feed.follow(self.kind);
        let why = loop {
            match self.follow_one(&mut lines).await {
                Ok(is_heard) if is_heard && !has_heard => {
                    has_heard = true;
                    self.recover();
                }
                Ok(_) => {}
                Err(why) => break why,
            }
        };
        drop(following);
        self.feed.kind(self.kind).restarts.add(1);
        self.was_steady = has_heard || opened.elapsed() >= self.timing.steady;
        match why {
            Trouble::Ended if !self.was_steady => Trouble::Cut("it ended at once".into()),
            other => other,
        }
    }

    /// Waits for one line and takes it, or answers false when something else is to be done first.
    /// An Err ends the watch.
    async fn follow_one(&mut self, lines: &mut Lines) -> Result<bool, Trouble> {
        if self.reconcile_at <= Instant::now() || self.finds_slices().await {
            return Err(Trouble::Due);
        }
        let due = self.reconcile_at.saturating_duration_since(Instant::now());
        let patience = due.min(self.until_look()).min(self.timing.silence);
        match lines.next(patience).await {
            Ok(Line::Text(line)) => self.follow_line(line).await.map(|()| true),
            Ok(Line::TooLong) => {
                self.doubt("a line is too long");
                Ok(true)
            }
            Ok(Line::End) => Err(Trouble::Ended),
            Err(Trouble::Stalled(_)) if patience < self.timing.silence => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Takes one event and moves on to its version.
    async fn follow_line(&mut self, line: &[u8]) -> Result<(), Trouble> {
        match self.take(line).await? {
            Taken::Object(version) => self.advance(&version),
            Taken::Bookmark(mark) => self.advance(&mark.version),
            Taken::Nothing => Ok(()),
        }
    }

    /// Moves on to `version`. An older one means that the server lost its data or that another
    /// replica lags: only a full list tells what is true then.
    fn advance(&mut self, version: &str) -> Result<(), Trouble> {
        let had = self.passed.as_deref().unwrap_or_default();
        if let (Some(old), Some(new)) = (number(had), number(version))
            && new < old
        {
            return Err(Trouble::Backwards { had: had.to_owned(), got: version.to_owned() });
        }
        if !version.is_empty() {
            self.stand_at(version);
        }
        Ok(())
    }

    /// Takes one event, of a list or of a watch.
    pub(super) async fn take(&mut self, line: &[u8]) -> Result<Taken, Trouble> {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(line) else {
            self.doubt("a line is no event");
            return Ok(Taken::Nothing);
        };
        let json = event.object.get();
        self.feed.hear(self.kind, Instant::now());
        match event.kind {
            "ADDED" | "MODIFIED" => Ok(Taken::Object(self.apply(json).await?)),
            "DELETED" => Ok(self.delete(json).await?),
            "ERROR" => Err(Trouble::from_event(json)),
            "BOOKMARK" => Ok(self.bookmark(json)),
            _ => {
                self.doubt("an event has an unknown type");
                Ok(Taken::Nothing)
            }
        }
    }

    /// Applies an object, or skips it; returns its version.
    pub(super) async fn apply(&mut self, json: &str) -> Result<Box<str>, Hangup> {
        let state = self.feed.kind(self.kind);
        let reading = match self.read(json) {
            Ok(reading) => reading,
            Err(flaw) => {
                state.skipped.add(1);
                self.flaws.tell(&flaw);
                if let Some(key) = flaw.key {
                    self.outlet.keep(self.kind, key).await?;
                }
                return Ok(flaw.version.unwrap_or_default());
            }
        };
        state.dropped_addresses.add(reading.dropped.into());
        let (namespace, name) = reading.found.identity();
        match reading.flaw(self.kind) {
            Some(flaw) => {
                state.skipped.add(1);
                self.flaws.tell(&flaw);
            }
            None => self.flaws.forget(namespace, name),
        }
        if self.seen.note(namespace, name, &reading.version) {
            state.repairs.add(1);
            let resource = self.resource();
            tracing::warn!(resource, namespace, name, "the watch omitted it");
        }
        match reading.found {
            Found::Object(object) => self.outlet.apply(object).await?,
            // It may have been one of a Service before.
            Found::Foreign(key) => {
                state.foreign.add(1);
                self.outlet.delete(self.kind, key).await?;
            }
        }
        Ok(reading.version)
    }

    /// Reads an object as what it was asked for.
    fn read(&self, json: &str) -> Result<Reading, Flaw> {
        let kept = self.outlet.scope().kept;
        match self.api.resource() == Resource::ENDPOINTS {
            true => read_endpoints(kept, json),
            false => read(self.kind, kept, json),
        }
    }

    /// Deletes by the identity alone, so that a flawed object can go too.
    async fn delete(&mut self, json: &str) -> Result<Taken, Hangup> {
        let Some(head) = read_head(json) else {
            self.doubt("a deleted object has no name");
            return Ok(Taken::Nothing);
        };
        self.flaws.forget(&head.key.namespace, &head.key.name);
        self.seen.forget(&head.key.namespace, &head.key.name);
        self.outlet.delete(self.kind, head.key).await?;
        Ok(Taken::Object(head.version))
    }

    /// Reads a bookmark.
    fn bookmark(&mut self, json: &str) -> Taken {
        match read_bookmark(json) {
            Some(mark) => Taken::Bookmark(mark),
            None => {
                self.doubt("a bookmark has no resource version");
                Taken::Nothing
            }
        }
    }
}
