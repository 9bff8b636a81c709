//! Which streams have something for those who wait.
//!
//! A stream is named at most once: it knows its place in the list. One that is served or closed before the list is taken
//! only gives its place up, and the list is tidied when half of it is such.

use super::Hub;
use crate::api::StreamId;
use crate::engine::lists::shrink;

impl Hub {
    /// The streams that found nothing when last received from and have something now, in the order in which they got it.
    pub(in crate::engine) fn take_woken(&mut self) -> Vec<StreamId> {
        let mut woken = std::mem::take(&mut self.woken);
        let mut place = 0;
        woken.retain(|&id| {
            let is_left = self.is_woken_at(id, place);
            place += 1;
            is_left
        });
        for &id in &woken {
            let slot = self.find(id).expect("a stream that is woken is open");
            self.streams.at_mut(slot).woken_at = None;
        }
        self.stale = 0;
        woken
    }

    pub(in crate::engine) fn has_woken(&self) -> bool {
        self.woken.len() > self.stale
    }

    /// Whether the stream is open and the place in the list is its own.
    pub(super) fn is_woken_at(&self, id: StreamId, place: usize) -> bool {
        self.find(id).is_some_and(|slot| self.streams.at(slot).woken_at == Some(place))
    }

    /// Gives up the place in the list that a stream had.
    pub(super) fn give_up(&mut self, place: Option<usize>) {
        self.stale += usize::from(place.is_some());
        if self.stale < 32 || self.stale * 2 < self.woken.len() {
            return;
        }
        let mut left = self.take_woken();
        shrink(&mut left);
        for (place, &id) in left.iter().enumerate() {
            let slot = self.find(id).expect("a stream that is woken is open");
            self.streams.at_mut(slot).woken_at = Some(place);
        }
        self.woken = left;
    }
}
