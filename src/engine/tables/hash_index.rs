//! Point lookups: from the hash of a key to its number, and to what is wanted first of it.
//!
//! The caller compares keys where they are. The order of the entries depends on the seed of the hash and is never
//! observed: there is no way to iterate.

/// Cut into this many tables, each growing alone, so that no insert pays for moving all entries at once.
const TABLES: usize = 64;
const TABLE_BITS: u32 = TABLES.trailing_zeros();

#[derive(Clone, Debug)]
pub(in crate::engine) struct HashIndex<T> {
    tables: Vec<Table<T>>,
}

/// Open addressing with linear probing.
#[derive(Clone, Debug)]
struct Table<T> {
    entries: Vec<Option<Entry<T>>>,
    used: usize,
}

/// The value lies in the entry itself, so that finding it is one look into memory.
#[derive(Clone, Debug)]
struct Entry<T> {
    hash: u32,
    id: u32,
    value: T,
}

impl<T: Clone> HashIndex<T> {
    pub(in crate::engine) fn new() -> Self {
        Self { tables: vec![Table { entries: Vec::new(), used: 0 }; TABLES] }
    }
}

impl<T> HashIndex<T> {
    /// The id and value under `hash` of which `is_it` says that they are those meant.
    pub(in crate::engine) fn find(&self, hash: u32, is_it: impl Fn(u32, &T) -> bool) -> Option<(u32, &T)> {
        let table = &self.tables[table_of(hash)];
        let entry = table.entries[table.find(hash, is_it)?].as_ref()?;
        Some((entry.id, &entry.value))
    }

    /// The value of an id that is there.
    pub(in crate::engine) fn at(&self, hash: u32, id: u32) -> &T {
        let (_, value) = self.find(hash, |found, _| found == id).expect("an id is found under its hash");
        value
    }

    /// The value of an id that is there.
    pub(in crate::engine) fn at_mut(&mut self, hash: u32, id: u32) -> &mut T {
        let table = &mut self.tables[table_of(hash)];
        let at = table.find(hash, |found, _| found == id).expect("an id is found under its hash");
        &mut table.entries[at].as_mut().expect("an entry was just found there").value
    }

    /// Adds an id that is not there yet.
    pub(in crate::engine) fn insert(&mut self, hash: u32, id: u32, value: T) {
        let table = &mut self.tables[table_of(hash)];
        if (table.used + 1) * 5 > table.entries.len() * 4 {
            table.resize((table.entries.len() * 2).max(8));
        }
        table.place(Entry { hash, id, value });
        table.used += 1;
    }

    /// Removes an id that is there.
    pub(in crate::engine) fn remove(&mut self, hash: u32, id: u32) -> T {
        let table = &mut self.tables[table_of(hash)];
        let at = table
            .find(hash, |found, _| found == id)
            .expect("an id is removed under the hash it was added with");
        table.used -= 1;
        let value = table.remove(at);
        if table.used * 8 < table.entries.len() {
            table.resize(table.entries.len() / 2);
        }
        value
    }

    /// How many ids there are.
    pub(in crate::engine) fn len(&self) -> usize {
        self.tables.iter().map(|table| table.used).sum()
    }

    /// Returns how many places the longest search for an entry visits.
    pub(in crate::engine) fn longest_probe(&self) -> usize {
        self.tables.iter().map(Table::longest_probe).max().unwrap_or(0)
    }
}

impl<T> Table<T> {
    fn find(&self, hash: u32, is_it: impl Fn(u32, &T) -> bool) -> Option<usize> {
        let mask = self.entries.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        while let Some(entry) = &self.entries[at] {
            if entry.hash == hash && is_it(entry.id, &entry.value) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn longest_probe(&self) -> usize {
        let mask = self.entries.len().wrapping_sub(1);
        let places = self.entries.iter().enumerate();
        let entries = places.filter_map(|(at, entry)| Some((at, entry.as_ref()?)));
        entries.map(|(at, entry)| (at.wrapping_sub(entry.hash as usize) & mask) + 1).max().unwrap_or(0)
    }

    /// Makes room for as many entries, a power of two, or none if there are none.
    fn resize(&mut self, capacity: usize) {
        let places = std::iter::repeat_with(|| None).take(capacity).collect();
        for entry in std::mem::replace(&mut self.entries, places).into_iter().flatten() {
            self.place(entry);
        }
    }

    fn place(&mut self, entry: Entry<T>) {
        let mask = self.entries.len() - 1;
        let mut at = entry.hash as usize & mask;
        while self.entries[at].is_some() {
            at = (at + 1) & mask;
        }
        self.entries[at] = Some(entry);
    }

    /// Takes out the entry at a place. Entries behind it move up, unless that would put them before the place where
    /// their search begins.
    fn remove(&mut self, at: usize) -> T {
        let mask = self.entries.len() - 1;
        let removed = self.entries[at].take().expect("an entry was just found there");
        let (mut hole, mut next) = (at, (at + 1) & mask);
        while let Some(entry) = &self.entries[next] {
            let home = entry.hash as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.entries.swap(hole, next);
                hole = next;
            }
            next = (next + 1) & mask;
        }
        removed.value
    }
}

/// The table takes the upper bits, the place inside it the lower ones.
fn table_of(hash: u32) -> usize {
    (hash >> (32 - TABLE_BITS)) as usize
}

/// Hashes keys and lease ids under one seed, for point lookups.
///
/// Two 64-bit words at a time are mixed with secrets derived from the seed, multiplied to 128 bits, and folded. No keys
/// are known that collide under most seeds. Nothing more is promised: the hash is not cryptographic, its 32 bits collide
/// by chance, and a client that knows the seed, or finds it by timing lookups, can compute keys that collide. std's
/// hasher resists that, but costs several times as much for the short keys of a coordination store.
#[derive(Clone, Debug)]
pub(in crate::engine) struct KeyHasher {
    secrets: [u64; 3],
}

impl KeyHasher {
    pub(in crate::engine) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self { secrets: std::array::from_fn(|_| split_mix(&mut state)) }
    }

    pub(in crate::engine) fn bytes(&self, key: &[u8]) -> u32 {
        let [start, left, right] = self.secrets;
        let mut state = start;
        let mut chunks = key.chunks_exact(16);
        for chunk in &mut chunks {
            state = fold(state ^ left ^ word(chunk), right ^ word(&chunk[8..]));
        }
        let tail = chunks.remainder();
        if !tail.is_empty() {
            let (low, high) = if tail.len() > 8 { tail.split_at(8) } else { (tail, &[][..]) };
            state = fold(state ^ left ^ padded(low), right ^ padded(high));
        }
        // Mix the length into the folded state, which depends on the seed. Mixed into a word of the key, it could be
        // cancelled by the bytes of that word under every seed.
        (fold(state ^ key.len() as u64, right) >> 32) as u32
    }

    pub(in crate::engine) fn number(&self, number: i64) -> u32 {
        let [start, left, right] = self.secrets;
        let state = fold(start ^ number.cast_unsigned(), left);
        (fold(state, right) >> 32) as u32
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// The first eight bytes, of at least as many.
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes were taken"))
}

/// Up to eight bytes, filled up with zeros.
fn padded(bytes: &[u8]) -> u64 {
    let mut filled = [0; 8];
    filled[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(filled)
}

/// SplitMix64, Steele, Lea and Flood 2014: spreads a seed into independent words.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
