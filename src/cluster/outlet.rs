//! The way from a source to the task that owns the Index: waits when that task is busy, and lets
//! only the exposed Namespaces through.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use crate::cluster::config::Scope;
use crate::cluster::object::{Change, Kind, Object, ObjectKey};

/// Sends Changes.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    changes: Sender<Change>,
    scope: Arc<Scope>,
}

/// The task that owns the Index has ended, so the source ends too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hangup;

impl Outlet {
    /// An Outlet for what is in `scope`.
    pub(super) fn new(changes: Sender<Change>, scope: &Scope) -> Self {
        Self { changes, scope: Arc::new(scope.clone()) }
    }

    /// What is watched.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Says that a full list begins.
    pub(super) async fn begin(&self, kind: Kind) -> Result<(), Hangup> {
        self.send(Change::ListBegin(kind)).await
    }

    /// Says that the list is complete.
    pub(super) async fn end(&self, kind: Kind) -> Result<(), Hangup> {
        self.send(Change::ListEnd(kind)).await
    }

    /// Says that the list is given up.
    pub(super) async fn give_up(&self, kind: Kind) -> Result<(), Hangup> {
        self.send(Change::ListGiveUp(kind)).await
    }

    /// Sends an object, if its Namespace is exposed.
    pub(super) async fn apply(&self, object: Object) -> Result<(), Hangup> {
        if !self.exposes(object.namespace()) {
            return Ok(());
        }
        self.send(Change::Apply(object)).await
    }

    /// Sends a deletion, if its Namespace is exposed.
    pub(super) async fn delete(&self, kind: Kind, key: ObjectKey) -> Result<(), Hangup> {
        if !self.exposes(namespace_of(kind, &key)) {
            return Ok(());
        }
        self.send(Change::Delete(kind, key)).await
    }

    /// Says that an object is there and makes no sense, if its Namespace is exposed.
    pub(super) async fn keep(&self, kind: Kind, key: ObjectKey) -> Result<(), Hangup> {
        if !self.exposes(namespace_of(kind, &key)) {
            return Ok(());
        }
        self.send(Change::Keep(kind, key)).await
    }

    /// Completes when nobody receives any more.
    pub(super) async fn closed(&self) {
        self.changes.closed().await;
    }

    /// Whether objects of the Namespace may pass.
    fn exposes(&self, namespace: &str) -> bool {
        let namespaces = &self.scope.namespaces;
        namespaces.is_empty() || namespaces.iter().any(|name| **name == *namespace)
    }

    /// Waits until there is room in the queue.
    async fn send(&self, change: Change) -> Result<(), Hangup> {
        self.changes.send(change).await.map_err(|_| Hangup)
    }
}

/// The Namespace that an object is, or lives in.
fn namespace_of(kind: Kind, key: &ObjectKey) -> &str {
    if kind == Kind::Namespace { &key.name } else { &key.namespace }
}
