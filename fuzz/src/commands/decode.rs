//! Decodes bytes into commands that interact: few keys, few leases, revisions near the current and compacted ones, and
//! low limits.

mod txn;
mod watch;

use super::super::choices::Choices;
use leasehold_testkit::strategy::{KEYS, LEASES};
use leasehold_testkit::wire::{
    AlarmAction, AlarmKind, DeleteRangeRequest, PutRequest, RangeRequest, Request, Settings,
};

/// Marks the current revision at the time of the command, and nearby numbers mark nearby revisions: see
/// `strategy::resolve`.
pub(super) const CURRENT: i64 = 1 << 40;

/// Marks the compacted revision, and nearby numbers mark nearby revisions.
pub(super) const COMPACTED: i64 = 1 << 41;

/// Marks the member of the first active alarm.
const FIRST_ALARM: u64 = u64::MAX;

/// The id of a lease that is never granted.
const UNKNOWN_LEASE: i64 = 777;

/// The byte of rare choices. Most of them are errors. It is not 0 or 255, which fuzzers prefer.
const RARE: u8 = 0xb5;

const SECOND: u64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Decoder<'a> {
    choices: Choices<'a>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { choices: Choices::new(data) }
    }

    pub(super) fn is_over(&self) -> bool {
        self.choices.are_over()
    }

    pub(super) fn settings(&mut self) -> Settings {
        let choices = &mut self.choices;
        let quota = u64::from(choices.byte());
        Settings {
            max_txn_ops: choices.one_of(&[128, 8, 128, 5]),
            max_request_bytes: choices.one_of(&[1536 * 1024, 600, 600, 40]),
            min_ttl: choices.one_of(&[2, 1, 3]),
            max_ttl: choices.one_of(&[9_000_000_000, 100]),
            quota_bytes: (quota % 4 == 3).then_some(100 + quota * 32),
            member_id: choices.one_of(&[1, 2]),
            progress_interval_nanos: SECOND / 10 * choices.one_of(&[10, 1, 25, 6000]),
        }
    }

    /// Grants some leases and puts some keys, so that later commands find some.
    pub(super) fn beginning(&mut self) -> Vec<Request> {
        let (leases, keys) = (self.choices.flags(), self.choices.flags());
        let granted = (0..).zip(LEASES).filter(|&(bit, _)| leases.has(bit));
        let grants = granted.map(|(bit, id)| Request::LeaseGrant { ttl: 10, id, standing: bit == 3 });
        let named = (0..).zip(KEYS).filter(|&(bit, _)| keys.has(bit));
        let puts =
            named.map(|(_, key)| Request::Put(PutRequest { key: key.to_vec(), ..PutRequest::default() }));
        grants.chain(puts).collect()
    }

    /// Numbers without a command are puts. A new kind of command takes its numbers from them, so that the corpora keep
    /// most of their meaning.
    pub(super) fn request(&mut self) -> Request {
        match self.choices.below(128) {
            20..=31 => Request::Range(self.range()),
            32..=38 => Request::DeleteRange(self.delete_range()),
            40..=59 => Request::Txn(self.txn()),
            60..=62 => Request::Compact { revision: self.revision(), physical: false },
            63 => Request::Compact { revision: self.revision(), physical: true },
            64 | 65 => Request::HashKv { revision: self.revision() },
            66 | 67 => Request::Events { from: self.revision() },
            68 => Request::Status,
            69..=75 => self.grant(),
            76 | 77 => Request::LeaseRevoke { id: self.lease() },
            78 => Request::LeaseExpire { id: self.lease() },
            79 | 80 => Request::LeaseKeepAlive { id: self.lease() },
            81 => Request::LeasePauseKeepAlive { id: self.lease() },
            82 => Request::LeaseResumeKeepAlive { id: self.lease() },
            83 | 84 => Request::LeaseTimeToLive { id: self.lease(), keys: self.choices.below(4) > 0 },
            85 => Request::LeaseLeases,
            86..=88 => self.alarm(),
            89..=93 => Request::Advance { nanos: self.nanos() },
            96..=124 => self.watch(),
            _ => Request::Put(self.put()),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        match self.choices.byte() {
            RARE => Vec::new(),
            byte => KEYS[usize::from(byte) % KEYS.len()].to_vec(),
        }
    }

    /// Returns the end of a single key, of all keys from the start on, or an ordinary one, which is often below the
    /// start. A rare end is too long for a small limit.
    fn range_end(&mut self) -> Vec<u8> {
        const ENDS: [&[u8]; 7] = [b"\0\0", b"a\0", b"ab\0", b"ac", b"b", b"d", b"\xff\0"];
        match self.choices.byte() {
            RARE => vec![b'z'; 560 + usize::from(self.choices.below(60))],
            byte if byte % 16 < 6 => Vec::new(),
            byte if byte % 16 < 9 => vec![0],
            byte => ENDS[usize::from(byte % 16) - 9].to_vec(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        const VALUES: [&[u8]; 4] = [b"", b"x", b"y", b"xy"];
        match self.choices.byte() {
            // About as long as a small request limit permits.
            RARE => vec![b'v'; 560 + usize::from(self.choices.below(60))],
            byte => VALUES[usize::from(byte) % VALUES.len()].to_vec(),
        }
    }

    fn lease(&mut self) -> i64 {
        match self.choices.byte() {
            RARE => UNKNOWN_LEASE,
            192..=199 => 0,
            byte => LEASES[usize::from(byte) % LEASES.len()],
        }
    }

    fn revision(&mut self) -> i64 {
        let byte = self.choices.byte();
        let number = i64::from(byte);
        match byte >> 5 {
            0 => 0,
            1 | 2 => CURRENT - number % 4,
            3 => CURRENT - number % 32,
            4 => CURRENT + 1 + number % 2,
            5 | 6 => COMPACTED - 1 + number % 4,
            _ => number % 8 - 3,
        }
    }

    fn put(&mut self) -> PutRequest {
        let (key, value) = (self.key(), self.value());
        let flags = self.choices.flags();
        let mut put = PutRequest {
            key,
            value,
            lease: if flags.has(0) { self.lease() } else { 0 },
            prev_kv: flags.has(1),
            ignore_value: matches!(flags.from(2) % 16, 14 | 15),
            ignore_lease: matches!(flags.from(2) % 16, 13 | 15),
        };
        // Providing a field and keeping the present one is an error, so mostly avoid it.
        if flags.from(6) < 3 {
            if put.ignore_value {
                put.value.clear();
            }
            if put.ignore_lease {
                put.lease = 0;
            }
        }
        put
    }

    fn range(&mut self) -> RangeRequest {
        let flags = self.choices.flags();
        let (key, range_end) = if flags.has(0) { (vec![0], vec![0]) } else { (self.key(), self.range_end()) };
        let mut range = RangeRequest { key, range_end, ..RangeRequest::default() };
        if flags.has(1) {
            range.revision = self.revision();
        }
        if flags.has(2) {
            range.limit = self.choices.one_of(&[1, 2, 3, 4, 5, -1, i64::MAX]);
        }
        if flags.has(3) {
            range.sort_order = self.number(3);
            range.sort_target = self.number(5);
        }
        if flags.has(4) {
            self.bounds(&mut range);
        }
        range.keys_only = flags.has(5);
        range.count_only = flags.has_both([5, 6]);
        range.serializable = flags.has(7);
        range
    }

    /// Returns a number of an enum with `end` variants, or an unknown one.
    fn number(&mut self, end: u8) -> i32 {
        match self.choices.byte() {
            RARE => -1,
            192 => i32::from(end),
            byte => i32::from(byte % end),
        }
    }

    fn bounds(&mut self, range: &mut RangeRequest) {
        let flags = self.choices.flags();
        let bounds = [
            &mut range.min_mod_revision,
            &mut range.max_mod_revision,
            &mut range.min_create_revision,
            &mut range.max_create_revision,
        ];
        for (bit, bound) in (0..).zip(bounds) {
            if flags.has(bit) {
                let byte = self.choices.byte();
                let number = i64::from(byte & 15);
                *bound = if byte < 160 { CURRENT - number } else { number - 2 };
            }
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = (self.key(), self.range_end());
        DeleteRangeRequest { key, range_end, prev_kv: self.choices.flags().has(0) }
    }

    fn grant(&mut self) -> Request {
        const LIMITS: [i64; 6] = [-1, 0, 100, 101, 9_000_000_000, 9_000_000_001];
        let byte = self.choices.byte();
        let ttl = match usize::from(byte) {
            byte if !(176..208).contains(&byte) => 1 + byte as i64 % 15,
            byte => LIMITS[byte % LIMITS.len()],
        };
        Request::LeaseGrant { ttl, id: self.lease(), standing: byte & 16 != 0 }
    }

    /// Most requests deactivate the active alarm: while one is active, little else is possible.
    fn alarm(&mut self) -> Request {
        let byte = self.choices.byte();
        let kind = [AlarmKind::NoSpace, AlarmKind::Corrupt, AlarmKind::None, AlarmKind::NoSpace]
            [usize::from(byte >> 4 & 3)];
        let member = u64::from(byte >> 6);
        match byte % 16 {
            0..=8 => Request::Alarm { action: AlarmAction::Deactivate, member: FIRST_ALARM, kind },
            9 => Request::Alarm { action: AlarmAction::Deactivate, member, kind },
            10 | 11 => Request::Alarm { action: AlarmAction::Activate, member, kind },
            _ => Request::Alarm { action: AlarmAction::Get, member, kind },
        }
    }

    /// Returns nanoseconds, mostly whole seconds and thirds, so that time stops exactly at deadlines of leases.
    fn nanos(&mut self) -> u64 {
        let byte = self.choices.byte();
        let number = u64::from(byte % 64);
        match byte / 64 {
            0 => number % 16 * SECOND,
            1 => number * SECOND / 3,
            2 => number * SECOND / 16 + u64::from(self.choices.byte()),
            _ => number % 2,
        }
    }
}
