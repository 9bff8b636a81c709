//! Lists that do not keep the memory of their largest size.

use std::collections::VecDeque;

/// A list keeps room for this many entries.
const KEPT: usize = 64;

/// Frees most of a list's room if little of it is used.
pub(super) fn shrink<T>(list: &mut Vec<T>) {
    if is_wasteful(list.capacity(), list.len()) {
        list.shrink_to(list.len() * 2);
    }
}

/// Frees the room of an empty queue if that is much more than the number of entries that it just had.
pub(super) fn free_room<T>(queue: &mut VecDeque<T>, had: usize) {
    if is_wasteful(queue.capacity(), had) {
        *queue = VecDeque::new();
    }
}

fn is_wasteful(room: usize, used: usize) -> bool {
    room > KEPT && room / 4 > used
}
