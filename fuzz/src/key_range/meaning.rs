//! Ranges with their meaning in the simplest code.

use leasehold::KeyRange;

use super::super::choices::Choices;

/// The constructor of a range and its arguments.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    Key(Vec<u8>),
    Prefix(Vec<u8>),
    FromKey(Vec<u8>),
    Between(Vec<u8>, Vec<u8>),
    All,
    Wire(Vec<u8>, Vec<u8>),
}

impl Meaning {
    pub(super) fn decode(choices: &mut Choices<'_>) -> Self {
        let kind = choices.below(6);
        let (first, second) = (key(choices), if kind > 2 { key(choices) } else { Vec::new() });
        match kind {
            0 => Self::Key(first),
            1 => Self::Prefix(first),
            2 => Self::FromKey(first),
            3 => Self::Between(first, second),
            4 => Self::All,
            _ => Self::Wire(first, second),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Prefix(_) => "prefix",
            Self::FromKey(_) => "from_key",
            Self::Between(..) => "between",
            Self::All => "all",
            Self::Wire(..) => "from_wire",
        }
    }

    pub(super) fn range(&self) -> KeyRange {
        match self.clone() {
            Self::Key(key) => KeyRange::key(key),
            Self::Prefix(prefix) => KeyRange::prefix(prefix),
            Self::FromKey(key) => KeyRange::from_key(key),
            Self::Between(start, end) => KeyRange::between(start, end),
            Self::All => KeyRange::all(),
            Self::Wire(key, range_end) => KeyRange::from_wire(key, range_end),
        }
    }

    /// Returns whether the range contains a key, which is not empty.
    pub(super) fn holds(&self, candidate: &[u8]) -> bool {
        match self {
            Self::Key(key) => candidate == key,
            Self::Prefix(prefix) => candidate.starts_with(prefix),
            Self::FromKey(key) => candidate >= &key[..],
            Self::Between(start, end) => candidate >= &start[..] && candidate < &end[..],
            Self::All => true,
            Self::Wire(key, range_end) => match range_end[..] {
                [] => candidate == key,
                [0] => candidate >= &key[..],
                _ => candidate >= &key[..] && candidate < &range_end[..],
            },
        }
    }

    /// Returns whether the range has no upper end. The rule that a transaction must not change a key twice ignores such
    /// a range (R-TXN-20).
    pub(super) fn is_endless(&self) -> bool {
        match self {
            Self::All | Self::FromKey(_) => true,
            // No key follows such a prefix.
            Self::Prefix(prefix) => prefix.iter().all(|&byte| byte == 0xff),
            Self::Wire(_, range_end) => range_end[..] == [0],
            Self::Key(_) | Self::Between(..) => false,
        }
    }

    /// Returns keys at the edges of the range.
    pub(super) fn edges(&self) -> Vec<Vec<u8>> {
        let corners: &[&Vec<u8>] = match self {
            Self::Key(key) | Self::Prefix(key) | Self::FromKey(key) => &[key],
            Self::Between(start, end) | Self::Wire(start, end) => &[start, end],
            Self::All => &[],
        };
        corners.iter().flat_map(|corner| neighbours(corner)).collect()
    }
}

/// Returns a key: mostly of a few chosen bytes, so that keys are prefixes and neighbours of each other, and sometimes
/// of any bytes.
pub(super) fn key(choices: &mut Choices<'_>) -> Vec<u8> {
    const BYTES: [u8; 8] = [0, 1, b'a', b'b', 0x7f, 0x80, 0xfe, 0xff];
    let length = choices.byte();
    if (160..224).contains(&length) {
        return choices.bytes(20);
    }
    (0..length % 6).map(|_| choices.one_of(&BYTES)).collect()
}

/// Returns the key, the key right after it, the next key of its length, and the key without its last byte.
fn neighbours(key: &[u8]) -> [Vec<u8>; 4] {
    let mut next = key.to_vec();
    if let Some(last) = next.last_mut() {
        *last = last.saturating_add(1);
    }
    let shorter = &key[..key.len().saturating_sub(1)];
    [key.to_vec(), [key, b"\0"].concat(), next, shorter.to_vec()]
}
