//! Tables for many entries, which never move all entries at once to grow. No result of the engine depends on the order
//! of a hash table.

pub(super) mod hash_index;
pub(super) mod interval_tree;
pub(super) mod slab;

use std::collections::VecDeque;

/// The largest capacity that a list or queue keeps while it is nearly empty.
const KEPT: usize = 64;

/// Shrinks a list's capacity if the capacity is above `KEPT` and the list uses less than a quarter of it.
pub(super) fn shrink<T>(list: &mut Vec<T>) {
    if is_wasteful(list.capacity(), list.len()) {
        // Keep twice the length as capacity, so that the next pushes do not reallocate.
        list.shrink_to(list.len() * 2);
    }
}

/// Frees the capacity of an emptied queue if it is above `KEPT` and the queue's `had` former entries used less than a
/// quarter of it.
pub(super) fn free_room<T>(queue: &mut VecDeque<T>, had: usize) {
    if is_wasteful(queue.capacity(), had) {
        *queue = VecDeque::new();
    }
}

fn is_wasteful(room: usize, used: usize) -> bool {
    room > KEPT && room / 4 > used
}
