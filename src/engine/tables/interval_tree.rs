//! Intervals of keys, and which of them a key is in: a treap in the order of the starts, of which each node knows the
//! furthest end below it.
//!
//! A node's priority is drawn from its own number under the engine's hash seed: so nobody can choose intervals that make a
//! chain of it, and the shape shows nowhere.

use std::cmp::Ordering;

use bytes::Bytes;

use super::hash_index::KeyHasher;
use super::slab::Slab;
use crate::api::KeyRange;

#[derive(Clone, Debug)]
pub(in crate::engine) struct IntervalTree<T> {
    nodes: Slab<Node<T>>,
    root: Link,
    inserted: i64,
    hasher: KeyHasher,
}

type Link = Option<u32>;

#[derive(Clone, Debug)]
struct Node<T> {
    start: Bytes,
    end: End,
    /// The furthest end among this node and those below it.
    furthest: End,
    priority: u32,
    left: Link,
    right: Link,
    value: T,
}

/// Where an interval ends: before a key, or never.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Bytes),
    Never,
}

impl End {
    fn of(range: &KeyRange) -> Self {
        if range.is_from_key() { Self::Never } else { Self::Before(range.shared_end()) }
    }

    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Never => true,
        }
    }
}

impl<T: Default> IntervalTree<T> {
    pub(in crate::engine) fn new(hasher: KeyHasher) -> Self {
        Self { nodes: Slab::new(), root: None, inserted: 0, hasher }
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns how many intervals the allocated slots have room for.
    pub(in crate::engine) fn slots(&self) -> usize {
        self.nodes.slots()
    }

    pub(in crate::engine) fn at(&self, node: u32) -> &T {
        &self.nodes.at(node).value
    }

    pub(in crate::engine) fn at_mut(&mut self, node: u32) -> &mut T {
        &mut self.nodes.at_mut(node).value
    }

    /// The values, in no particular order.
    pub(in crate::engine) fn values(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().map(|(_, node)| &node.value)
    }

    /// The node of a range; made with a default value, if there is none.
    pub(in crate::engine) fn find_or_insert(&mut self, range: &KeyRange) -> u32 {
        if let Some(found) = self.find(range) {
            return found;
        }
        let end = End::of(range);
        let priority = self.hasher.number(self.inserted);
        self.inserted += 1;
        let new = self.nodes.insert(Node {
            start: range.shared_start(),
            furthest: end.clone(),
            end,
            priority,
            left: None,
            right: None,
            value: T::default(),
        });
        self.root = Some(self.insert(self.root, new));
        new
    }

    /// The node of a range, if it is there.
    pub(in crate::engine) fn find(&self, range: &KeyRange) -> Option<u32> {
        let end = End::of(range);
        let mut link = self.root;
        while let Some(at) = link {
            let node = self.nodes.at(at);
            link = match range.start().cmp(&node.start).then_with(|| end.cmp(&node.end)) {
                Ordering::Less => node.left,
                Ordering::Equal => return Some(at),
                Ordering::Greater => node.right,
            };
        }
        None
    }

    /// Removes a node that is there.
    pub(in crate::engine) fn remove(&mut self, node: u32) {
        self.root = self.remove_below(self.root, node);
        self.nodes.remove(node);
    }

    /// Calls `found` with each node whose interval has the key, in the order of their starts.
    pub(in crate::engine) fn containing(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.containing_below(self.root, key, found);
    }

    fn containing_below(&self, link: Link, key: &[u8], found: &mut impl FnMut(u32)) {
        let Some(at) = link else {
            return;
        };
        let node = self.nodes.at(at);
        if !node.furthest.is_after(key) {
            return;
        }
        self.containing_below(node.left, key, found);
        if &node.start[..] <= key {
            if node.end.is_after(key) {
                found(at);
            }
            self.containing_below(node.right, key, found);
        }
    }

    fn order(&self, a: u32, b: u32) -> Ordering {
        let (a, b) = (self.nodes.at(a), self.nodes.at(b));
        a.start.cmp(&b.start).then_with(|| a.end.cmp(&b.end))
    }

    fn insert(&mut self, link: Link, new: u32) -> u32 {
        let Some(at) = link else {
            return new;
        };
        if self.nodes.at(new).priority > self.nodes.at(at).priority {
            let (left, right) = self.split(link, new);
            let node = self.nodes.at_mut(new);
            (node.left, node.right) = (left, right);
            self.update(new);
            return new;
        }
        if self.order(new, at).is_lt() {
            let left = self.insert(self.nodes.at(at).left, new);
            self.nodes.at_mut(at).left = Some(left);
        } else {
            let right = self.insert(self.nodes.at(at).right, new);
            self.nodes.at_mut(at).right = Some(right);
        }
        self.update(at);
        at
    }

    /// Cuts a subtree into the nodes before another node and those after it.
    fn split(&mut self, link: Link, by: u32) -> (Link, Link) {
        let Some(at) = link else {
            return (None, None);
        };
        if self.order(at, by).is_lt() {
            let (left, right) = self.split(self.nodes.at(at).right, by);
            self.nodes.at_mut(at).right = left;
            self.update(at);
            (Some(at), right)
        } else {
            let (left, right) = self.split(self.nodes.at(at).left, by);
            self.nodes.at_mut(at).left = right;
            self.update(at);
            (left, Some(at))
        }
    }

    fn remove_below(&mut self, link: Link, node: u32) -> Link {
        let at = link.expect("a node that was found is below the root");
        if at == node {
            let (left, right) = (self.nodes.at(at).left, self.nodes.at(at).right);
            return self.merge(left, right);
        }
        if self.order(node, at).is_lt() {
            let left = self.remove_below(self.nodes.at(at).left, node);
            self.nodes.at_mut(at).left = left;
        } else {
            let right = self.remove_below(self.nodes.at(at).right, node);
            self.nodes.at_mut(at).right = right;
        }
        self.update(at);
        Some(at)
    }

    /// Joins two subtrees of which all of the first comes before all of the second.
    fn merge(&mut self, left: Link, right: Link) -> Link {
        let (Some(first), Some(second)) = (left, right) else {
            return left.or(right);
        };
        if self.nodes.at(first).priority > self.nodes.at(second).priority {
            let below = self.merge(self.nodes.at(first).right, right);
            self.nodes.at_mut(first).right = below;
            self.update(first);
            left
        } else {
            let below = self.merge(left, self.nodes.at(second).left);
            self.nodes.at_mut(second).left = below;
            self.update(second);
            right
        }
    }

    /// Finds a node's furthest end anew, after what is below it has changed.
    fn update(&mut self, at: u32) {
        let node = self.nodes.at(at);
        let below = [node.left, node.right].into_iter().flatten().map(|child| &self.nodes.at(child).furthest);
        let furthest = below.chain([&node.end]).max().expect("a node has an end").clone();
        self.nodes.at_mut(at).furthest = furthest;
    }

    /// Whether the order, the priorities and the furthest ends are as they should be; for tests.
    pub(in crate::engine) fn is_consistent(&self) -> bool {
        let all = self.nodes.iter().all(|(at, node)| {
            let children = [node.left, node.right].into_iter().flatten().map(|child| self.nodes.at(child));
            let furthest = children.clone().map(|child| &child.furthest).chain([&node.end]).max();
            let ordered = node.left.is_none_or(|left| self.order(left, at).is_lt())
                && node.right.is_none_or(|right| self.order(right, at).is_gt());
            let heaped = children.into_iter().all(|child| child.priority <= node.priority);
            ordered && heaped && furthest == Some(&node.furthest)
        });
        all && self.root.is_some() == (self.len() > 0)
    }
}
