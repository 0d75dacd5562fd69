//! Following a watch: one event per line, into Changes.

use std::future::pending;
use std::pin::Pin;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use crate::cluster::feed::Fault;
use crate::cluster::object::ObjectKey;
use crate::cluster::outlet::Hangup;
use crate::cluster::read::{Flaw, Found, Reading, read, read_bookmark, read_endpoints, read_head};
use crate::cluster::watch::api::Resource;
use crate::cluster::watch::canary::{Count, Mismatch};
use crate::cluster::watch::lines::{Line, Lines};
use crate::cluster::watch::seen::{Sight, number};
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

/// The question how many objects there are, on its way.
type Asking = Option<Pin<Box<dyn Future<Output = Option<Count>> + Send>>>;

impl Watcher {
    /// Takes events until the stream ends, and tells why it did.
    pub(super) async fn follow(&mut self, mut lines: Lines) -> Trouble {
        let opened = Instant::now();
        let (mut has_heard, mut asking) = (false, None);
        // After one that fell silent, an open watch shows nothing until it says something.
        let mut following = (!self.was_silent).then(|| self.feed.follow(self.kind));
        if following.is_some() {
            self.feed.hear(self.kind, opened);
        }
        self.heard_at = opened;
        let why = loop {
            match self.follow_one(&mut lines, &mut asking).await {
                Ok(is_heard) if is_heard && !has_heard => {
                    has_heard = true;
                    self.was_silent = false;
                    following.get_or_insert_with(|| self.feed.follow(self.kind));
                    self.recover();
                }
                Ok(_) => {}
                Err(why) => break why,
            }
        };
        match (&why, following) {
            // Also the watch that took its place says nothing.
            (Trouble::Stalled(_), _) if self.was_silent => self.doubt_silence(),
            (Trouble::Stalled(_), Some(following)) => {
                self.was_silent = true;
                following.end_silent();
            }
            (_, following) => drop(following),
        }
        self.canary.stop(Instant::now());
        self.feed.kind(self.kind).restarts.add(1);
        self.was_steady = has_heard || opened.elapsed() >= self.timing.steady;
        match why {
            Trouble::Ended if !self.was_steady => Trouble::Cut("it ended at once".into()),
            other => other,
        }
    }

    /// Waits for one line and takes it, or answers false when something else is to be done first.
    /// An Err ends the watch.
    async fn follow_one(
        &mut self,
        lines: &mut Lines,
        asking: &mut Asking,
    ) -> Result<bool, Trouble> {
        let now = Instant::now();
        if self.reconcile_at <= now || self.finds_slices().await {
            return Err(Trouble::Due);
        }
        self.look_at_canary(asking, now);
        let silent_at = self.heard_at + self.timing.silence;
        let wake_at = silent_at.min(self.reconcile_at).min(self.canary.wake_at(now));
        let wake_at = self.look_at().map_or(wake_at, |at| at.min(wake_at));
        tokio::select! {
            // Lines first: while there are any, no timer is needed.
            biased;
            line = lines.next(self.timing.silence) => {
                self.heard_at = Instant::now();
                match line? {
                    Line::Text(line) => self.follow_line(line).await?,
                    Line::TooLong => self.doubt("a line is too long"),
                    Line::End => return Err(Trouble::Ended),
                }
                Ok(true)
            }
            count = answer(asking) => {
                self.canary.answer(count, Instant::now());
                Ok(false)
            }
            () = sleep_until(wake_at) => match wake_at == silent_at {
                true => Err(Trouble::Stalled(self.timing.silence)),
                false => Ok(false),
            },
        }
    }

    /// Asks how many objects there are when it is time to, and compares when the watch has come to
    /// the version of the answer.
    fn look_at_canary(&mut self, asking: &mut Asking, now: Instant) {
        let version = self.passed.as_deref().and_then(number);
        let here = version.zip(self.seen.count()).filter(|_| self.api.is_countable());
        let Some((version, objects)) = here else { return self.canary.stop(now) };
        if self.canary.is_due(now) {
            self.canary.ask(Count { version, objects });
            *asking = Some(Box::pin(self.api.clone().count()));
        }
        let Some(Mismatch { server, ours }) = self.canary.compare(version, now) else { return };
        self.feed.kind(self.kind).fail(Fault::Omitted);
        if let Some(held_back) = self.notices.tell(Fault::Omitted, now) {
            let resource = self.resource();
            tracing::warn!(
                resource,
                server,
                ours,
                held_back,
                "the API server counts other objects than the watch told of; a full list follows"
            );
        }
        self.list_soon(now);
    }

    /// A healthy server sends a bookmark each minute, so one whose watches open and say nothing is
    /// stuck, and its changes are got by a full list. Not at the first silence, which a connection
    /// that was lost explains: where these are lost again and again, a large cluster is listed no
    /// more often than after a list that had to repair something.
    fn doubt_silence(&mut self) {
        let now = Instant::now();
        self.list_soon(now);
        self.is_due = self.reconcile_at <= now;
    }

    /// Takes one event and moves on to its version.
    async fn follow_line(&mut self, line: &[u8]) -> Result<(), Trouble> {
        match self.take(line).await? {
            Taken::Object(version) => self.advance(&version)?,
            Taken::Bookmark(mark) => self.advance(&mark.version)?,
            Taken::Nothing => return Ok(()),
        }
        // An event after our position: the server has that history.
        self.feed.kind(self.kind).confirm();
        Ok(())
    }

    /// Refuses an event that is older than the watch: the server lost its data, or another replica
    /// lags. Only a full list tells what is true then.
    fn check_order(&self, version: &str) -> Result<(), Trouble> {
        let had = self.passed.as_deref().unwrap_or_default();
        match number(had).zip(number(version)) {
            Some((old, new)) if new < old && !self.seen.is_listing() => {
                Err(Trouble::Backwards { had: had.to_owned(), got: version.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Moves on to `version`.
    fn advance(&mut self, version: &str) -> Result<(), Trouble> {
        self.check_order(version)?;
        if version.is_empty() {
            return Ok(());
        }
        self.stand_at(version);
        if let Some((version, objects)) = number(version).zip(self.seen.count()) {
            self.canary.move_on(Count { version, objects }, Instant::now());
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
    pub(super) async fn apply(&mut self, json: &str) -> Result<Box<str>, Trouble> {
        let reading = match self.read(json) {
            Ok(reading) => reading,
            Err(flaw) => return self.keep(flaw).await,
        };
        self.check_order(&reading.version)?;
        let state = self.feed.kind(self.kind);
        state.dropped_addresses.add(reading.dropped.into());
        let (namespace, name) = reading.found.identity();
        match reading.flaw(self.kind) {
            Some(flaw) => {
                state.skipped.add(1);
                self.flaws.tell(&flaw);
            }
            None => self.flaws.forget(namespace, name),
        }
        match self.seen.note(namespace, name, &reading.version) {
            Sight::News => {
                self.clear_of_doubt(namespace, name);
                self.pass_on(reading.found).await?;
            }
            Sight::Omitted => self.suspect(reading.found).await?,
            Sight::Outdated => {
                state.outdated.add(1);
                let key = ObjectKey { namespace: namespace.into(), name: name.into() };
                self.outlet.keep(self.kind, key).await?;
            }
        }
        Ok(reading.version)
    }

    /// Leaves an object out, and keeps what was known of it.
    async fn keep(&mut self, flaw: Flaw) -> Result<Box<str>, Trouble> {
        let version = flaw.version.clone().unwrap_or_default();
        self.check_order(&version)?;
        self.feed.kind(self.kind).skipped.add(1);
        self.flaws.tell(&flaw);
        if let Some(key) = flaw.key {
            self.seen.note(&key.namespace, &key.name, &version);
            self.outlet.keep(self.kind, key).await?;
        }
        Ok(version)
    }

    /// Sends an object to the Index.
    pub(super) async fn pass_on(&mut self, found: Found) -> Result<(), Hangup> {
        match found {
            Found::Object(object) => self.outlet.apply(object).await,
            // It may have been one of a Service before.
            Found::Foreign(key) => {
                self.feed.kind(self.kind).foreign.add(1);
                self.outlet.delete(self.kind, key).await
            }
        }
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
    async fn delete(&mut self, json: &str) -> Result<Taken, Trouble> {
        let Some(head) = read_head(json) else {
            self.doubt("a deleted object has no name");
            return Ok(Taken::Nothing);
        };
        self.check_order(&head.version)?;
        if !self.seen.forget(&head.key.namespace, &head.key.name, &head.version) {
            // It is there again, as a list that was given up has shown.
            self.feed.kind(self.kind).outdated.add(1);
            return Ok(Taken::Object(head.version));
        }
        self.flaws.forget(&head.key.namespace, &head.key.name);
        self.clear_of_doubt(&head.key.namespace, &head.key.name);
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

/// Waits for the answer to a question, if one is on its way.
async fn answer(asking: &mut Asking) -> Option<Count> {
    let Some(question) = asking else { return pending().await };
    let answer = question.await;
    *asking = None;
    answer
}
