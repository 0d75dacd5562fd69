//! Which flawed objects were told: each once, and not more than a bound.

use std::collections::HashSet;

use crate::cluster::object::ObjectKey;
use crate::cluster::read::Flaw;

/// Flawed objects whose names are remembered, so that each is told once. Further ones are only
/// counted: whoever can make objects must not be able to fill the log.
const FLAWS_MAX: usize = 1000;

/// The flawed objects that were told.
#[derive(Debug, Default)]
pub(super) struct Flaws {
    told: HashSet<Option<ObjectKey>>,
}

impl Flaws {
    /// Warns of an object, unless that was done before.
    pub(super) fn tell(&mut self, flaw: &Flaw) {
        if !self.is_news(flaw) {
            return;
        }
        let (namespace, name) =
            flaw.key.as_ref().map_or(("?", "?"), |key| (&*key.namespace, &*key.name));
        let resource = flaw.kind.resource();
        let reason = &flaw.reason;
        if flaw.is_partial {
            tracing::warn!(resource, namespace, name, "left out of an object: {reason}");
        } else {
            tracing::warn!(resource, namespace, name, "object makes no sense: {reason}");
        }
        if self.told.len() == FLAWS_MAX {
            tracing::warn!(resource, "{FLAWS_MAX} objects make no sense; others are only counted");
        }
    }

    /// Remembers a flawed object; false when it was remembered before, or there is no room.
    fn is_news(&mut self, flaw: &Flaw) -> bool {
        self.told.len() < FLAWS_MAX && self.told.insert(flaw.key.clone())
    }

    /// An object is well (again), or gone: its next flaw is news.
    pub(super) fn forget(&mut self, namespace: &str, name: &str) {
        if !self.told.is_empty() {
            self.told.remove(&Some(ObjectKey { namespace: namespace.into(), name: name.into() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::Kind;

    fn flaw(name: &str) -> Flaw {
        let key = Some(ObjectKey { namespace: "shop".into(), name: name.into() });
        Flaw { kind: Kind::Service, key, version: None, is_partial: false, reason: String::new() }
    }

    #[test]
    fn a_flaw_is_news_once_and_again_after_the_object_was_well() {
        let mut flaws = Flaws::default();
        assert!(flaws.is_news(&flaw("web")) && flaws.is_news(&flaw("api")));
        assert!(!flaws.is_news(&flaw("web")));
        flaws.forget("shop", "web");
        assert!(flaws.is_news(&flaw("web")) && !flaws.is_news(&flaw("api")));
    }

    #[test]
    fn the_names_of_flawed_objects_are_bounded() {
        let mut flaws = Flaws::default();
        for number in 0..2 * FLAWS_MAX {
            flaws.tell(&flaw(&number.to_string()));
        }
        assert_eq!(flaws.told.len(), FLAWS_MAX);
        flaws.forget("shop", "1");
        assert_eq!(flaws.told.len(), FLAWS_MAX - 1);
    }
}
