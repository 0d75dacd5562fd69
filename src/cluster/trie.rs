//! A map whose copies share what they have in common.
//!
//! ```text
//! hash 101101 010011 …      Branch ─┬─ Leaf     6 bits of the hash choose the child of a Branch,
//!      └─┬──┘ └─┬──┘                └─ Branch ── Leaf      present children are packed by a bitmap
//!     1st level 2nd
//! ```
//!
//! A copy is one pointer. A change copies the few nodes on the way to its leaf if another copy
//! holds them too, and changes them in place if not: that is why a Zone is published in the time
//! of what changed, and why building one from nothing costs no copies. Reads follow two or three
//! pointers at 100 000 entries.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// Bits of the hash that one level consumes. Different hashes part within eleven levels; entries
/// of one hash are chained in one leaf.
const BITS: u32 = 6;

/// A map from octets to `V`. Cloning is cheap and shares all entries.
#[derive(Clone)]
pub struct Trie<V> {
    root: Option<Child<V>>,
    len: usize,
    state: RandomState,
}

enum Child<V> {
    Branch(Arc<Branch<V>>),
    Leaf(Arc<Leaf<V>>),
}

struct Branch<V> {
    bitmap: u64,
    children: Vec<Child<V>>,
}

struct Leaf<V> {
    hash: u64,
    key: Box<[u8]>,
    value: V,
    /// Another entry with the same 64 bits of hash.
    next: Option<Arc<Leaf<V>>>,
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: None, len: 0, state: RandomState::default() }
    }
}

impl<V> Clone for Child<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Branch(branch) => Self::Branch(branch.clone()),
            Self::Leaf(leaf) => Self::Leaf(leaf.clone()),
        }
    }
}

impl<V> Clone for Branch<V> {
    fn clone(&self) -> Self {
        Self { bitmap: self.bitmap, children: self.children.clone() }
    }
}

impl<V: Clone> Trie<V> {
    /// The entry of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let hash = self.state.hash_one(key);
        let mut child = self.root.as_ref()?;
        let mut bits = hash;
        let leaf = loop {
            match child {
                Child::Branch(branch) => child = &branch.children[branch.slot(bit_of(bits, 0))?],
                Child::Leaf(leaf) => break leaf,
            }
            bits >>= BITS;
        };
        leaf.chain().find(|leaf| leaf.hash == hash && *leaf.key == *key).map(|leaf| &leaf.value)
    }

    /// Sets the entry of `key`.
    pub fn insert(&mut self, key: &[u8], value: V) {
        let hash = self.state.hash_one(key);
        let leaf = Leaf { hash, key: key.into(), value, next: None };
        let grew = match &mut self.root {
            Some(root) => root.insert(leaf, 0),
            None => {
                self.root = Some(Child::Leaf(Arc::new(leaf)));
                true
            }
        };
        self.len += usize::from(grew);
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &[u8]) {
        let hash = self.state.hash_one(key);
        if self.get(key).is_none() {
            return;
        }
        self.len -= 1;
        if self.root.as_mut().is_some_and(|root| root.remove(hash, key, 0)) {
            self.root = None;
        }
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        let mut stack: Vec<&Child<V>> = self.root.iter().collect();
        let mut chain: Option<&Leaf<V>> = None;
        std::iter::from_fn(move || {
            loop {
                if let Some(leaf) = chain {
                    chain = leaf.next.as_deref();
                    return Some((&*leaf.key, &leaf.value));
                }
                match stack.pop()? {
                    Child::Branch(branch) => stack.extend(&branch.children),
                    Child::Leaf(leaf) => chain = Some(leaf),
                }
            }
        })
    }
}

impl<V: Clone> Leaf<V> {
    fn chain(&self) -> impl Iterator<Item = &Leaf<V>> {
        std::iter::successors(Some(self), |leaf| leaf.next.as_deref())
    }

    /// The chain without the entry of `key`; leaves before it are copied, those behind are shared.
    fn without(self: &Arc<Self>, key: &[u8]) -> Option<Arc<Self>> {
        if *self.key == *key {
            return self.next.clone();
        }
        let next = self.next.as_ref().and_then(|next| next.without(key));
        let (hash, key, value) = (self.hash, self.key.clone(), self.value.clone());
        Some(Arc::new(Leaf { hash, key, value, next }))
    }
}

impl<V: Clone> Child<V> {
    /// Puts `leaf` below this child, `depth` levels deep. Answers whether its key is new.
    fn insert(&mut self, mut leaf: Leaf<V>, depth: u32) -> bool {
        match self {
            Child::Branch(branch) => Arc::make_mut(branch).insert(leaf, depth),
            Child::Leaf(old) if old.hash == leaf.hash => {
                let is_new = old.chain().all(|old| old.key != leaf.key);
                leaf.next = if is_new { Some(old.clone()) } else { old.without(&leaf.key) };
                *old = Arc::new(leaf);
                is_new
            }
            Child::Leaf(old) => {
                let bitmap = bit_of(old.hash, depth);
                let mut branch = Branch { bitmap, children: vec![Child::Leaf(old.clone())] };
                branch.insert(leaf, depth);
                *self = Child::Branch(Arc::new(branch));
                true
            }
        }
    }

    /// Takes `key` out from below this child. Answers whether nothing is left of the child.
    fn remove(&mut self, hash: u64, key: &[u8], depth: u32) -> bool {
        match self {
            Child::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                branch.remove(hash, key, depth);
                // A lone leaf moves up, so that equal contents have equal shape.
                if let [Child::Leaf(last)] = &branch.children[..] {
                    *self = Child::Leaf(last.clone());
                    return false;
                }
                branch.children.is_empty()
            }
            Child::Leaf(leaf) => match leaf.without(key) {
                Some(rest) => {
                    *leaf = rest;
                    false
                }
                None => true,
            },
        }
    }
}

impl<V: Clone> Branch<V> {
    /// Where the child of `bit` is, if it is present.
    fn slot(&self, bit: u64) -> Option<usize> {
        (self.bitmap & bit != 0).then(|| self.rank(bit))
    }

    /// Children before `bit`.
    fn rank(&self, bit: u64) -> usize {
        (self.bitmap & (bit - 1)).count_ones() as usize
    }

    fn insert(&mut self, leaf: Leaf<V>, depth: u32) -> bool {
        let bit = bit_of(leaf.hash, depth);
        if let Some(slot) = self.slot(bit) {
            return self.children[slot].insert(leaf, depth + 1);
        }
        self.children.insert(self.rank(bit), Child::Leaf(Arc::new(leaf)));
        self.bitmap |= bit;
        true
    }

    fn remove(&mut self, hash: u64, key: &[u8], depth: u32) {
        let bit = bit_of(hash, depth);
        let Some(slot) = self.slot(bit) else { return };
        if self.children[slot].remove(hash, key, depth + 1) {
            self.bitmap &= !bit;
            self.children.remove(slot);
        }
    }
}

/// The bit of the bitmap that `hash` chooses at `depth`.
fn bit_of(hash: u64, depth: u32) -> u64 {
    1 << ((hash >> (BITS * depth)) & (u64::BITS as u64 - 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any history of changes agrees with a plain map, and an older copy never changes.
        #[test]
        fn a_trie_is_a_map_whose_copies_stay(
            steps in proptest::collection::vec((0u16..300, proptest::option::of(0u32..9)), 0..600),
            cut in 0usize..600,
        ) {
            let (mut trie, mut model) = (Trie::default(), BTreeMap::new());
            let mut copy = (Trie::default(), BTreeMap::new());
            for (at, (key, value)) in steps.into_iter().enumerate() {
                if at == cut {
                    copy = (trie.clone(), model.clone());
                }
                match value {
                    Some(value) => {
                        trie.insert(&key.to_be_bytes(), value);
                        model.insert(key, value);
                    }
                    None => {
                        trie.remove(&key.to_be_bytes());
                        model.remove(&key);
                    }
                }
            }
            agree(&trie, &model)?;
            agree(&copy.0, &copy.1)?;
        }
    }

    fn agree(trie: &Trie<u32>, model: &BTreeMap<u16, u32>) -> Result<(), TestCaseError> {
        prop_assert_eq!(trie.len(), model.len());
        for key in 0u16..300 {
            prop_assert_eq!(trie.get(&key.to_be_bytes()), model.get(&key));
        }
        prop_assert_eq!(trie.iter().count(), model.len());
        Ok(())
    }

    #[test]
    fn entries_of_one_hash_share_a_leaf() {
        let leaf = |key: &[u8], value| Leaf { hash: 7, key: key.into(), value, next: None };
        let mut child = Child::Leaf(Arc::new(leaf(b"a", 1)));
        assert!(child.insert(leaf(b"b", 2), 3));
        assert!(!child.insert(leaf(b"a", 3), 3));
        let Child::Leaf(chain) = &child else { panic!("split although the hash is the same") };
        let entries: Vec<_> = chain.chain().map(|leaf| (&*leaf.key, leaf.value)).collect();
        assert_eq!(entries, [(&b"a"[..], 3), (&b"b"[..], 2)]);
        assert!(!child.remove(7, b"a", 3));
        assert!(child.remove(7, b"b", 3));
    }
}
