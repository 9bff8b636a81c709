//! Tables for many entries. Growth moves one segment at most, and no result depends on the order of a hash.

pub(super) mod hash_index;
pub(super) mod interval_tree;
pub(super) mod slab;

use std::collections::VecDeque;

/// Capacity up to this is not freed.
const KEPT: usize = 64;

/// Frees most of a list's capacity if less than a quarter is used.
pub(super) fn shrink<T>(list: &mut Vec<T>) {
    if is_wasteful(list.capacity(), list.len()) {
        // Twice the length, so that the next pushes do not reallocate.
        list.shrink_to(list.len() * 2);
    }
}

/// Frees the capacity of an emptied queue if it had entries in less than a quarter of it.
pub(super) fn free_room<T>(queue: &mut VecDeque<T>, had: usize) {
    if is_wasteful(queue.capacity(), had) {
        *queue = VecDeque::new();
    }
}

fn is_wasteful(room: usize, used: usize) -> bool {
    room > KEPT && room / 4 > used
}
