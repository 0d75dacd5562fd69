//! A map whose copies share what they have in common.
//!
//! ```text
//! hash 10110 01001 …     Branch ─┬─ Leaf: key, value, tail   5 bits of the hash choose the child
//!      └─┬─┘ └─┬─┘               └─ Branch ── Leaf           of a Branch; present children are
//!     1st level 2nd                                          packed by a bitmap
//! ```
//!
//! A copy is one pointer. A change copies the few nodes on the way to its leaf if another copy
//! holds them too, and changes them in place if not: that is why a Zone is published in the time
//! of what changed, and why building one from nothing costs few copies.
//!
//! Every Branch and every Leaf is one allocation behind one thin pointer, so that a look-up touches
//! one or two cache lines per node. Five bits a level: at 100 000 entries the upper levels stay in
//! the processor's cache, and the lowest Branch is two lines long.

mod walk;

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use triomphe::ThinArc;
pub use walk::{Difference, Differing, Leaves};

/// Bits of the hash that one level consumes.
const BITS: u32 = 5;
/// Levels after which the hash is used up. Entries that still share a place are listed.
const DEPTH_MAX: u32 = u64::BITS / BITS;

/// Keys that are read ahead together.
const AHEAD_MAX: usize = 64;
/// Levels that are read ahead: enough for some millions of entries.
const AHEAD_DEPTH: usize = 5;

/// A map from octets to a `V` with a tail of octets. Cloning is cheap and shares all entries.
pub struct Trie<V> {
    root: Option<Child<V>>,
    len: usize,
    state: RandomState,
}

/// One entry.
pub struct Leaf<V>(ThinArc<Head<V>, u8>);

/// What of a Leaf has a fixed size; the octets behind are the key and the tail.
#[derive(PartialEq)]
struct Head<V> {
    key_len: u32,
    value: V,
}

enum Child<V> {
    Branch(Branch<V>),
    Leaf(Leaf<V>),
    /// Entries with the same hash.
    Clash(Arc<[Leaf<V>]>),
}

/// The present children, and the bitmap that tells which they are.
struct Branch<V>(ThinArc<u32, Child<V>>);

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: None, len: 0, state: RandomState::default() }
    }
}

impl<V> Clone for Trie<V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len, state: self.state.clone() }
    }
}

impl<V> Trie<V> {
    /// The entry of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Leaf<V>> {
        let mut bits = self.hash(key);
        let mut child = self.root.as_ref()?;
        loop {
            match child {
                Child::Branch(branch) => child = branch.child(bits)?,
                Child::Leaf(leaf) => return Some(leaf).filter(|leaf| leaf.key() == key),
                Child::Clash(leaves) => return leaves.iter().find(|leaf| leaf.key() == key),
            }
            bits >>= BITS;
        }
    }

    /// What decides where an entry lies.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.state.hash_one(key)
    }

    /// Reads what [`Trie::get`] will read for the keys of these hashes. They go down together,
    /// level by level: loads of one level do not depend on each other, so the processor waits for
    /// many of them at once.
    pub fn read_ahead(&self, hashes: &[u64]) {
        for hashes in hashes.chunks(AHEAD_MAX) {
            let mut walks: [_; AHEAD_MAX] = std::array::from_fn(|at| {
                let hash = hashes.get(at).copied();
                (hash.unwrap_or(0), self.root.as_ref().filter(|_| hash.is_some()))
            });
            let walks = &mut walks[..hashes.len()];
            for _ in 0..AHEAD_DEPTH {
                for (bits, child) in walks.iter_mut() {
                    if let Some(Child::Branch(branch)) = child {
                        *child = branch.child(*bits);
                        *bits >>= BITS;
                    }
                }
            }
            let last_octet = |child: &Child<V>| match child {
                Child::Leaf(leaf) => leaf.0.slice.last().copied(),
                Child::Branch(_) | Child::Clash(_) => None,
            };
            let seen = walks.iter().filter_map(|(_, child)| child.and_then(last_octet));
            std::hint::black_box(seen.fold(0u8, |all, octet| all ^ octet));
        }
    }

    /// Sets the entry of `key`.
    pub fn insert(&mut self, key: &[u8], value: V, tail: &[u8]) {
        let leaf = Leaf::new(key, value, tail);
        let hash = self.hash(key);
        let grew = match &mut self.root {
            Some(root) => root.insert(leaf, hash, 0, &self.state),
            None => {
                self.root = Some(Child::Leaf(leaf));
                true
            }
        };
        self.len += usize::from(grew);
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &[u8]) {
        if self.get(key).is_none() {
            return;
        }
        self.len -= 1;
        let hash = self.hash(key);
        if self.root.as_mut().is_some_and(|root| root.remove(key, hash)) {
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
    pub fn iter(&self) -> impl Iterator<Item = &Leaf<V>> {
        let mut stack: Vec<&Child<V>> = self.root.iter().collect();
        let mut clash: &[Leaf<V>] = &[];
        std::iter::from_fn(move || {
            loop {
                if let Some((leaf, rest)) = clash.split_first() {
                    clash = rest;
                    return Some(leaf);
                }
                match stack.pop()? {
                    Child::Branch(branch) => stack.extend(branch.children()),
                    Child::Leaf(leaf) => return Some(leaf),
                    Child::Clash(leaves) => clash = leaves,
                }
            }
        })
    }
}

impl<V> Leaf<V> {
    fn new(key: &[u8], value: V, tail: &[u8]) -> Self {
        let head = Head { key_len: key.len() as u32, value };
        if tail.is_empty() {
            return Self(ThinArc::from_header_and_slice(head, key));
        }
        Self(ThinArc::from_header_and_slice(head, &[key, tail].concat()))
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.0.slice[..self.0.header.header.key_len as usize]
    }

    /// The part of fixed size.
    pub fn value(&self) -> &V {
        &self.0.header.header.value
    }

    /// The part of any size.
    pub fn tail(&self) -> &[u8] {
        &self.0.slice[self.0.header.header.key_len as usize..]
    }

    /// Whether this is that very entry, and not only an equal one.
    fn is(&self, other: &Self) -> bool {
        self.0.ptr() == other.0.ptr()
    }
}

impl<V> Clone for Leaf<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: PartialEq> PartialEq for Leaf<V> {
    fn eq(&self, other: &Self) -> bool {
        self.0.header.header == other.0.header.header && self.0.slice == other.0.slice
    }
}

impl<V> Clone for Child<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Branch(branch) => Self::Branch(Branch(branch.0.clone())),
            Self::Leaf(leaf) => Self::Leaf(leaf.clone()),
            Self::Clash(leaves) => Self::Clash(leaves.clone()),
        }
    }
}

impl<V> Child<V> {
    /// Puts a Leaf at or below this child, `depth` levels down. Answers whether its key is new.
    fn insert(&mut self, leaf: Leaf<V>, hash: u64, depth: u32, state: &RandomState) -> bool {
        match self {
            Self::Branch(branch) => return branch.insert(leaf, hash, depth, state),
            Self::Leaf(held) if held.key() == leaf.key() => {
                *held = leaf;
                return false;
            }
            Self::Leaf(held) if depth == DEPTH_MAX => {
                *self = Self::Clash(Arc::new([held.clone(), leaf]));
            }
            Self::Leaf(held) => {
                let held_hash = state.hash_one(held.key());
                let mut branch = Branch::of(bit_of(held_hash, depth), Self::Leaf(held.clone()));
                branch.insert(leaf, hash, depth, state);
                *self = Self::Branch(branch);
            }
            Self::Clash(leaves) => {
                let held = leaves.iter().filter(|held| held.key() != leaf.key()).cloned();
                let mut all: Vec<Leaf<V>> = held.collect();
                all.push(leaf);
                return std::mem::replace(leaves, all.into()).len() < leaves.len();
            }
        }
        true
    }

    /// Takes a key out that is at or below this child. Answers whether nothing is left.
    fn remove(&mut self, key: &[u8], hash: u64) -> bool {
        match self {
            Self::Branch(branch) => {
                branch.remove(key, hash);
                match branch.children() {
                    [] => return true,
                    // One shape per content: a lone Leaf takes the place of its Branch.
                    [Self::Leaf(last)] => *self = Self::Leaf(last.clone()),
                    _ => {}
                }
                false
            }
            Self::Leaf(_) => true,
            Self::Clash(leaves) => {
                let rest: Vec<_> = leaves.iter().filter(|held| held.key() != key).collect();
                *self = match rest[..] {
                    [last] => Self::Leaf(last.clone()),
                    _ => Self::Clash(rest.into_iter().cloned().collect()),
                };
                false
            }
        }
    }
}

impl<V> Branch<V> {
    fn of(bit: u32, child: Child<V>) -> Self {
        Self(ThinArc::from_header_and_iter(bit, std::iter::once(child)))
    }

    fn bitmap(&self) -> u32 {
        self.0.header.header
    }

    /// Whether this is that very node.
    fn is(&self, other: &Self) -> bool {
        self.0.ptr() == other.0.ptr()
    }

    fn children(&self) -> &[Child<V>] {
        &self.0.slice
    }

    /// The child that the lowest bits choose.
    fn child(&self, bits: u64) -> Option<&Child<V>> {
        let bit = bit_of(bits, 0);
        (self.bitmap() & bit != 0).then(|| &self.children()[self.rank(bit)])
    }

    /// Children before `bit`.
    fn rank(&self, bit: u32) -> usize {
        (self.bitmap() & (bit - 1)).count_ones() as usize
    }

    fn insert(&mut self, leaf: Leaf<V>, hash: u64, depth: u32, state: &RandomState) -> bool {
        let bit = bit_of(hash, depth);
        let slot = self.rank(bit);
        if self.bitmap() & bit != 0 {
            return self.change(slot, |child| child.insert(leaf, hash, depth + 1, state));
        }
        let mut leaf = Some(Child::Leaf(leaf));
        let count = self.children().len() + 1;
        let children = (0..count).map(|at| match at.cmp(&slot) {
            std::cmp::Ordering::Less => self.children()[at].clone(),
            std::cmp::Ordering::Equal => leaf.take().expect("each place is filled once"),
            std::cmp::Ordering::Greater => self.children()[at - 1].clone(),
        });
        self.0 = ThinArc::from_header_and_iter(self.bitmap() | bit, children);
        true
    }

    fn remove(&mut self, key: &[u8], hash: u64) {
        let bit = bit_of(hash, 0);
        if self.bitmap() & bit == 0 {
            return;
        }
        let slot = self.rank(bit);
        if self.change(slot, |child| child.remove(key, hash >> BITS)) {
            let count = self.children().len() - 1;
            let children =
                (0..count).map(|at| self.children()[at + usize::from(at >= slot)].clone());
            self.0 = ThinArc::from_header_and_iter(self.bitmap() & !bit, children);
        }
    }

    /// Changes one child: in place, or in a copy if another Trie shares this Branch.
    fn change<T>(&mut self, slot: usize, change: impl FnOnce(&mut Child<V>) -> T) -> T {
        if ThinArc::strong_count(&self.0) > 1 {
            let children = self.children().iter().cloned();
            self.0 = ThinArc::from_header_and_iter(self.bitmap(), children);
        }
        self.0.with_arc_mut(|branch| {
            let branch = triomphe::Arc::get_mut(branch).expect("nobody else holds this Branch");
            change(&mut branch.slice_mut()[slot])
        })
    }
}

/// The bit of the bitmap that `hash` chooses at `depth`.
fn bit_of(hash: u64, depth: u32) -> u32 {
    1 << ((hash >> (BITS * depth)) % u64::from(u32::BITS))
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
                        trie.insert(&key.to_be_bytes(), value, &tail(value));
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

    fn tail(value: u32) -> Vec<u8> {
        vec![7; value as usize]
    }

    fn agree(trie: &Trie<u32>, model: &BTreeMap<u16, u32>) -> Result<(), TestCaseError> {
        prop_assert_eq!(trie.len(), model.len());
        for key in 0u16..300 {
            let found = trie.get(&key.to_be_bytes());
            prop_assert_eq!(found.map(Leaf::value), model.get(&key));
            prop_assert!(found.is_none_or(|leaf| leaf.tail() == tail(*leaf.value())));
        }
        prop_assert_eq!(trie.iter().count(), model.len());
        Ok(())
    }

    #[test]
    fn entries_of_one_hash_are_listed() {
        let state = RandomState::default();
        let mut child = Child::Leaf(Leaf::new(b"a", 1, b""));
        let mut insert =
            |key: &[u8], value| child.insert(Leaf::new(key, value, b""), 7, DEPTH_MAX, &state);
        assert!(insert(b"b", 2));
        assert!(insert(b"c", 3));
        assert!(!insert(b"a", 4));
        let trie = Trie { root: Some(child.clone()), len: 3, state };
        let value = |key: &[u8]| trie.get(key).map(|leaf| *leaf.value());
        assert_eq!(
            [value(b"a"), value(b"b"), value(b"c"), value(b"d")].map(|v| v.unwrap_or(0)),
            [4, 2, 3, 0]
        );
        assert_eq!(trie.iter().count(), 3);
        assert!(!child.remove(b"a", 7) && !child.remove(b"c", 7));
        assert!(matches!(child, Child::Leaf(_)));
        assert!(child.remove(b"b", 7));
    }
}
