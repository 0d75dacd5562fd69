//! Walks that own what they walk: all entries of a map, and where two maps differ.
//!
//! A walk holds the nodes that it has still to visit, and so outlives the borrow of its map: a
//! transfer that waits for its client goes on in the Zone that it began with. Two maps of which one
//! came from the other share what did not change, and a comparison skips what is shared.

use std::hash::BuildHasher;
use std::vec::IntoIter;

use super::{Branch, Child, DEPTH_MAX, Leaf, RandomState, Trie, bit_of};

/// All entries of a map, in no order.
pub struct Leaves<V> {
    stack: Vec<Child<V>>,
    clash: IntoIter<Leaf<V>>,
}

/// The entries that differ between two maps: those of one key together. What is equal but was put
/// in anew may come too.
pub struct Difference<V> {
    stack: Vec<Pair<V>>,
    /// Found, and not yet told.
    found: Vec<Differing<V>>,
    state: RandomState,
}

/// An entry before and after; one of them at least.
pub type Differing<V> = (Option<Leaf<V>>, Option<Leaf<V>>);

/// What two maps have at one place, so many levels down.
struct Pair<V> {
    one: Option<Child<V>>,
    other: Option<Child<V>>,
    depth: u32,
}

impl<V> Trie<V> {
    /// A map without entries that can be compared with this one.
    pub fn emptied(&self) -> Self {
        Self { root: None, len: 0, state: self.state.clone() }
    }

    /// All entries.
    pub fn leaves(&self) -> Leaves<V> {
        Leaves { stack: self.root.iter().cloned().collect(), clash: Vec::new().into_iter() }
    }

    /// The entries that `other` has not, or has otherwise, and those that only `other` has. Takes
    /// the time of what is not shared. `None` when neither map came from the other: then equal
    /// keys lie at different places.
    pub fn difference(&self, other: &Self) -> Option<Difference<V>> {
        // The same generator puts any key at the same place, and another one hardly ever does.
        let is_related = self.hash(b"") == other.hash(b"");
        let pair = Pair { one: self.root.clone(), other: other.root.clone(), depth: 0 };
        is_related.then(|| Difference {
            stack: vec![pair],
            found: Vec::new(),
            state: self.state.clone(),
        })
    }
}

impl<V> Iterator for Leaves<V> {
    type Item = Leaf<V>;

    fn next(&mut self) -> Option<Leaf<V>> {
        loop {
            if let Some(leaf) = self.clash.next() {
                return Some(leaf);
            }
            match self.stack.pop()? {
                Child::Branch(branch) => self.stack.extend(branch.children().iter().cloned()),
                Child::Leaf(leaf) => return Some(leaf),
                Child::Clash(leaves) => self.clash = Vec::from(&leaves[..]).into_iter(),
            }
        }
    }
}

impl<V> Iterator for Difference<V> {
    type Item = Differing<V>;

    fn next(&mut self) -> Option<Differing<V>> {
        loop {
            if let Some(found) = self.found.pop() {
                return Some(found);
            }
            let pair = self.stack.pop()?;
            if !pair.is_shared() {
                self.compare(pair);
            }
        }
    }
}

impl<V> Difference<V> {
    fn compare(&mut self, Pair { one, other, depth }: Pair<V>) {
        let is_branch = |child: &Option<Child<V>>| matches!(child, Some(Child::Branch(_)));
        if depth < DEPTH_MAX && (is_branch(&one) || is_branch(&other)) {
            let bits = self.bits(&one, depth) | self.bits(&other, depth);
            for bit in (0..u32::BITS).map(|n| 1 << n).filter(|bit| bits & bit != 0) {
                let [one, other] = [&one, &other].map(|child| self.below(child, bit, depth));
                self.stack.push(Pair { one, other, depth: depth + 1 });
            }
        } else {
            self.compare_leaves(leaves_at(one), leaves_at(other));
        }
    }

    /// Which places below a child are taken.
    fn bits(&self, child: &Option<Child<V>>, depth: u32) -> u32 {
        match child {
            Some(Child::Branch(branch)) => branch.bitmap(),
            Some(Child::Leaf(leaf)) => self.bit(leaf, depth),
            // Entries of one hash lie at the lowest level only.
            Some(Child::Clash(_)) | None => 0,
        }
    }

    /// What is at one of these places. A Leaf stands for the branch that it would be in.
    fn below(&self, child: &Option<Child<V>>, bit: u32, depth: u32) -> Option<Child<V>> {
        match child.as_ref()? {
            Child::Branch(branch) => branch.at(bit).cloned(),
            Child::Leaf(leaf) => (self.bit(leaf, depth) == bit).then(|| Child::Leaf(leaf.clone())),
            Child::Clash(_) => None,
        }
    }

    fn bit(&self, leaf: &Leaf<V>, depth: u32) -> u32 {
        bit_of(self.state.hash_one(leaf.key()), depth)
    }

    fn compare_leaves(&mut self, ones: Vec<Leaf<V>>, mut others: Vec<Leaf<V>>) {
        for one in ones {
            let at = others.iter().position(|other| other.key() == one.key());
            let other = at.map(|at| others.swap_remove(at));
            if !other.as_ref().is_some_and(|other| other.is(&one)) {
                self.found.push((Some(one), other));
            }
        }
        self.found.extend(others.into_iter().map(|other| (None, Some(other))));
    }
}

impl<V> Pair<V> {
    /// Whether both maps have the very same node here.
    fn is_shared(&self) -> bool {
        match (&self.one, &self.other) {
            (Some(Child::Branch(one)), Some(Child::Branch(other))) => one.is(other),
            (Some(Child::Leaf(one)), Some(Child::Leaf(other))) => one.is(other),
            _ => false,
        }
    }
}

impl<V> Branch<V> {
    /// The child at one bit.
    fn at(&self, bit: u32) -> Option<&Child<V>> {
        (self.bitmap() & bit != 0).then(|| &self.children()[self.rank(bit)])
    }
}

/// The entries of a child that is no branch.
fn leaves_at<V>(child: Option<Child<V>>) -> Vec<Leaf<V>> {
    match child {
        Some(Child::Leaf(leaf)) => vec![leaf],
        Some(Child::Clash(leaves)) => leaves.to_vec(),
        Some(Child::Branch(_)) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Vec<u8>, u32>;

    fn change(trie: &mut Trie<u32>, model: &mut Model, key: u16, value: Option<u32>) {
        let key = key.to_be_bytes();
        match value {
            Some(value) => {
                trie.insert(&key, value, b"");
                model.insert(key.to_vec(), value);
            }
            None => {
                trie.remove(&key);
                model.remove(&key[..]);
            }
        }
    }

    /// What differs, by key, without what is equal.
    fn told(difference: Difference<u32>) -> BTreeMap<Vec<u8>, (Option<u32>, Option<u32>)> {
        let value = |leaf: &Option<Leaf<u32>>| leaf.as_ref().map(|leaf| *leaf.value());
        let key = |(one, other): &Differing<u32>| {
            one.as_ref().or(other.as_ref()).expect("one of them").key().to_vec()
        };
        let all: Vec<_> = difference.map(|it| (key(&it), (value(&it.0), value(&it.1)))).collect();
        let count = all.len();
        let told: BTreeMap<_, _> = all.into_iter().collect();
        assert_eq!(told.len(), count, "each key comes once");
        told.into_iter().filter(|(_, (one, other))| one != other).collect()
    }

    fn naive(one: &Model, other: &Model) -> BTreeMap<Vec<u8>, (Option<u32>, Option<u32>)> {
        let keys: BTreeSet<&Vec<u8>> = one.keys().chain(other.keys()).collect();
        let pair = |key: &Vec<u8>| (one.get(key).copied(), other.get(key).copied());
        let all = keys.into_iter().map(|key| (key.clone(), pair(key)));
        all.filter(|(_, (one, other))| one != other).collect()
    }

    fn any_steps(max: usize) -> impl Strategy<Value = Vec<(u16, Option<u32>)>> {
        proptest::collection::vec((0u16..300, proptest::option::of(0u32..4)), 0..max)
    }

    proptest! {
        #[test]
        fn a_difference_is_that_of_the_entries(before in any_steps(400), after in any_steps(60)) {
            let (mut trie, mut model) = (Trie::default(), Model::new());
            before.into_iter().for_each(|(key, value)| change(&mut trie, &mut model, key, value));
            let (old, old_model) = (trie.clone(), model.clone());
            let touched: BTreeSet<u16> = after.iter().map(|(key, _)| *key).collect();
            after.into_iter().for_each(|(key, value)| change(&mut trie, &mut model, key, value));
            let difference = old.difference(&trie).expect("one came from the other");
            prop_assert_eq!(told(difference), naive(&old_model, &model));
            let back = trie.difference(&old).expect("one came from the other");
            prop_assert!(back.count() <= touched.len(), "what was not touched is not told");
            prop_assert_eq!(trie.leaves().count(), model.len());
            let empty = trie.emptied();
            prop_assert_eq!(told(trie.difference(&empty).expect("related")).len(), model.len());
        }
    }

    #[test]
    fn maps_that_have_nothing_to_do_with_each_other_are_not_compared() {
        let (one, other) = (Trie::<u32>::default(), Trie::default());
        assert!(one.difference(&other).is_none());
        assert!(one.difference(&one.emptied()).is_some());
    }

    #[test]
    fn entries_of_one_hash_are_compared_one_by_one() {
        let state = RandomState::default();
        let leaves = |keys: &[&[u8]]| -> Vec<Leaf<u32>> {
            keys.iter().map(|key| Leaf::new(key, 1, b"")).collect()
        };
        let [a, b, c] = leaves(&[b"a", b"b", b"c"]).try_into().ok().expect("three");
        let clash = |leaves: [&Leaf<u32>; 2]| Some(Child::Clash(leaves.map(Clone::clone).into()));
        let pair = Pair { one: clash([&a, &b]), other: clash([&b, &c]), depth: DEPTH_MAX };
        let difference = Difference { stack: vec![pair], found: Vec::new(), state };
        assert_eq!(told(difference).len(), 2);
        let trie = Trie { root: clash([&a, &b]), len: 2, state: RandomState::default() };
        assert_eq!(trie.leaves().count(), 2);
    }
}
