//! A treap of key intervals, ordered by start and end, that finds the intervals containing a key.
//!
//! Each node stores the furthest end in its subtree, so that a search skips a subtree whose intervals all end at or
//! before the key. Priorities are hashes of insertion numbers under the engine's seed, so a client cannot choose
//! intervals that degrade the tree to a list. No result depends on the shape of the tree.

use std::cmp::Ordering;

use bytes::Bytes;

use super::hash_index::KeyHasher;
use super::slab::Slab;
use crate::api::KeyRange;

#[derive(Clone, Debug)]
pub(in crate::engine) struct IntervalTree<T> {
    nodes: Slab<Node<T>>,
    root: Link,
    /// The number of nodes ever inserted. The priority of a node is a hash of the number of nodes inserted before it.
    inserted: i64,
    hasher: KeyHasher,
}

type Link = Option<u32>;

#[derive(Clone, Debug)]
struct Node<T> {
    start: Bytes,
    end: End,
    /// The furthest end of an interval in the subtree of this node, the node included.
    furthest: End,
    priority: u32,
    left: Link,
    right: Link,
    value: T,
}

/// The exclusive end of an interval: a key, or no end. `Never` is the last variant, so that the derived order puts it
/// after every key.
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

    /// Returns the number of intervals that the allocated slots have room for.
    pub(in crate::engine) fn slots(&self) -> usize {
        self.nodes.slots()
    }

    pub(in crate::engine) fn at(&self, node: u32) -> &T {
        &self.nodes.at(node).value
    }

    pub(in crate::engine) fn at_mut(&mut self, node: u32) -> &mut T {
        &mut self.nodes.at_mut(node).value
    }

    /// Returns the values of all intervals, in no particular order.
    pub(in crate::engine) fn values(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().map(|(_, node)| &node.value)
    }

    /// Returns the node of a range. Inserts a node with a default value if the tree has no node for the range.
    pub(in crate::engine) fn find_or_insert(&mut self, range: &KeyRange) -> u32 {
        if let Some(found) = self.find(range) {
            return found;
        }
        let end = End::of(range);
        // A hash under the seed, so that a client cannot predict the priority.
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

    /// Returns the node of a range, or `None` if the tree has no node for the range.
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

    /// Removes a node that is in the tree.
    pub(in crate::engine) fn remove(&mut self, node: u32) {
        // Unlink the node before its slot is freed, because the search for the node compares its interval.
        self.root = self.remove_below(self.root, node);
        self.nodes.remove(node);
    }

    /// Calls `found` with each node whose interval contains the key, in order of start and end.
    pub(in crate::engine) fn containing(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.containing_below(self.root, key, found);
    }

    fn containing_below(&self, link: Link, key: &[u8], found: &mut impl FnMut(u32)) {
        let Some(at) = link else {
            return;
        };
        let node = self.nodes.at(at);
        // If the furthest end is at or before the key, no interval in this subtree contains the key.
        if !node.furthest.is_after(key) {
            return;
        }
        self.containing_below(node.left, key, found);
        // If this node starts after the key, every node of the right subtree does too.
        if &node.start[..] <= key {
            if node.end.is_after(key) {
                found(at);
            }
            self.containing_below(node.right, key, found);
        }
    }

    /// Compares two nodes by start, then by end. No two nodes are equal.
    fn order(&self, a: u32, b: u32) -> Ordering {
        let (a, b) = (self.nodes.at(a), self.nodes.at(b));
        a.start.cmp(&b.start).then_with(|| a.end.cmp(&b.end))
    }

    /// Inserts a node into the subtree at `link`, and returns the new root of the subtree.
    fn insert(&mut self, link: Link, new: u32) -> u32 {
        let Some(at) = link else {
            return new;
        };
        // A new node with a higher priority than the root becomes the root, and the subtree is split around the new
        // node.
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

    /// Splits a subtree into the nodes before the node `by` and the nodes after it.
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

    /// Removes a node from the subtree at `link`, and returns the new root of the subtree.
    fn remove_below(&mut self, link: Link, node: u32) -> Link {
        let at = link.expect("a node of the tree is below the root");
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

    /// Merges two subtrees. Every node of the first subtree must come before every node of the second.
    fn merge(&mut self, left: Link, right: Link) -> Link {
        let (Some(first), Some(second)) = (left, right) else {
            return left.or(right);
        };
        // The root with the higher priority stays the root, which keeps the heap order.
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

    /// Recomputes the furthest end of a node after its subtrees changed.
    fn update(&mut self, at: u32) {
        let node = self.nodes.at(at);
        let below = [node.left, node.right].into_iter().flatten().map(|child| &self.nodes.at(child).furthest);
        let furthest = below.chain([&node.end]).max().expect("a node has its own end").clone();
        self.nodes.at_mut(at).furthest = furthest;
    }

    /// Returns whether the order, the priorities and the furthest ends of all nodes are valid, for tests.
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
