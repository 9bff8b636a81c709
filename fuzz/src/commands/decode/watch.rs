//! Watches: a few streams of a few watchers with small capacities. Some streams are received from seldom.

use super::{CURRENT, Decoder, RARE};
use leasehold_testkit::strategy::STREAMS;
use leasehold_testkit::wire::{Request, WatchCreate};

impl Decoder<'_> {
    pub(super) fn watch(&mut self) -> Request {
        let byte = self.choices.byte();
        let stream = STREAMS[usize::from(byte >> 4) % STREAMS.len()];
        match byte % 16 {
            0..=6 => Request::WatchCreate(self.watch_create(stream)),
            7 | 8 => Request::WatchCancel { stream, id: self.watch_id() },
            9 => Request::WatchProgress { stream },
            // The first stream is received from four times as often as the second, and the third almost never.
            10..=14 => Request::WatchReceive { stream: STREAMS[usize::from(byte % 16 == 14)] },
            _ if byte >> 4 == 11 => Request::WatchClose { stream },
            _ => Request::WatchReceive { stream },
        }
    }

    fn watch_create(&mut self, stream: u32) -> WatchCreate {
        let flags = self.choices.flags();
        // All keys, in one of two forms, or another range.
        let (key, range_end) = if flags.has(0) {
            (if flags.has(1) { vec![0] } else { Vec::new() }, vec![0])
        } else {
            (self.key(), self.range_end())
        };
        WatchCreate {
            stream,
            key,
            range_end,
            start_revision: if flags.has(2) { self.start() } else { 0 },
            watch_id: if flags.has(3) { self.watch_id() } else { 0 },
            no_put: flags.has_both([4, 5]),
            no_delete: flags.has_both([4, 6]),
            prev_kv: flags.has(5),
            progress_notify: flags.has(6),
            fragment: flags.has(7),
            capacity: self.choices.one_of(&[1, 2, 3, 4, 1, 2, 0, 20]),
        }
    }

    /// Returns a start revision: often in the past, so that there is history to read, and rarely far ahead.
    fn start(&mut self) -> i64 {
        match self.choices.byte() {
            RARE => i64::MAX,
            192 => i64::MIN,
            byte if byte < 32 => CURRENT + i64::from(byte % 4) + 1,
            _ => self.revision(),
        }
    }

    /// Returns an id of a watcher, mostly one that is assigned automatically.
    fn watch_id(&mut self) -> i64 {
        match self.choices.byte() {
            RARE => -1,
            192..=199 => -7,
            200..=207 => 100,
            byte => i64::from(byte % 6),
        }
    }
}
