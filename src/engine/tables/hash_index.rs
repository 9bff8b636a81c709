//! A hash index from a key to its id and a value.
//!
//! The caller stores the keys and compares them. The order of entries depends on the seed of the hash, so the index has
//! no iterator.

/// The number of tables in an index. Each table grows on its own, so that no insert moves all entries at once.
const TABLES: usize = 64;
const TABLE_BITS: u32 = TABLES.trailing_zeros();

#[derive(Clone, Debug)]
pub(in crate::engine) struct HashIndex<T> {
    tables: Vec<Table<T>>,
}

/// A hash table with open addressing and linear probing.
#[derive(Clone, Debug)]
struct Table<T> {
    entries: Vec<Option<Entry<T>>>,
    used: usize,
}

/// An entry with its value inline, so that a lookup follows no pointer to the value.
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
    /// Returns the id and value of the entry with the hash `hash` that `is_match` accepts.
    pub(in crate::engine) fn find(&self, hash: u32, is_match: impl Fn(u32, &T) -> bool) -> Option<(u32, &T)> {
        let table = &self.tables[table_of(hash)];
        let entry = table.entries[table.find(hash, is_match)?].as_ref()?;
        Some((entry.id, &entry.value))
    }

    /// Returns the value of an id that is in the index under `hash`.
    pub(in crate::engine) fn at(&self, hash: u32, id: u32) -> &T {
        let (_, value) =
            self.find(hash, |found, _| found == id).expect("an id in the index has an entry under its hash");
        value
    }

    /// Returns the value of an id that is in the index under `hash`, for the caller to change.
    pub(in crate::engine) fn at_mut(&mut self, hash: u32, id: u32) -> &mut T {
        let table = &mut self.tables[table_of(hash)];
        let at =
            table.find(hash, |found, _| found == id).expect("an id in the index has an entry under its hash");
        &mut table.entries[at].as_mut().expect("`find` returns the place of an entry").value
    }

    /// Adds an id under a hash, with a value. The id must not be in the index.
    pub(in crate::engine) fn insert(&mut self, hash: u32, id: u32, value: T) {
        let table = &mut self.tables[table_of(hash)];
        // Keep the table at most 4/5 full. A search without a match ends only at a vacant place, and runs of entries
        // grow quickly in a fuller table.
        if (table.used + 1) * 5 > table.entries.len() * 4 {
            table.resize((table.entries.len() * 2).max(8));
        }
        table.place(Entry { hash, id, value });
        table.used += 1;
    }

    /// Removes an id that is in the index under `hash`, and returns its value.
    pub(in crate::engine) fn remove(&mut self, hash: u32, id: u32) -> T {
        let table = &mut self.tables[table_of(hash)];
        let at =
            table.find(hash, |found, _| found == id).expect("an id in the index has an entry under its hash");
        table.used -= 1;
        let value = table.remove(at);
        // Shrink only far below the limit for growth, so that inserting and removing in turn does not resize each time.
        if table.used * 8 < table.entries.len() {
            table.resize(table.entries.len() / 2);
        }
        value
    }

    /// Returns the number of ids in the index.
    pub(in crate::engine) fn len(&self) -> usize {
        self.tables.iter().map(|table| table.used).sum()
    }

    /// Returns the number of places that the longest search for an entry visits.
    pub(in crate::engine) fn longest_probe(&self) -> usize {
        self.tables.iter().map(Table::longest_probe).max().unwrap_or(0)
    }
}

impl<T> Table<T> {
    fn find(&self, hash: u32, is_match: impl Fn(u32, &T) -> bool) -> Option<usize> {
        // The capacity is a power of two, so `& mask` is the remainder. A table without capacity has no place to
        // search.
        let mask = self.entries.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        while let Some(entry) = &self.entries[at] {
            if entry.hash == hash && is_match(entry.id, &entry.value) {
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
        // The distance from the place where a search for the entry starts to the entry, counted around the end of the
        // table.
        entries.map(|(at, entry)| (at.wrapping_sub(entry.hash as usize) & mask) + 1).max().unwrap_or(0)
    }

    /// Rebuilds the table with another capacity. The capacity must be a power of two above the number of entries, or 0
    /// if the table is empty.
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

    /// Removes the entry at a place and returns its value. Moves a later entry of the same run of occupied places into
    /// the vacated place, unless a search for that entry starts after this place. Then fills the place of the moved
    /// entry likewise.
    fn remove(&mut self, at: usize) -> T {
        let mask = self.entries.len() - 1;
        let removed = self.entries[at].take().expect("`find` returns the place of an entry");
        let (mut hole, mut next) = (at, (at + 1) & mask);
        while let Some(entry) = &self.entries[next] {
            let home = entry.hash as usize & mask;
            // An entry may move if it is at least as far from its home, where a search for it starts, as from the hole.
            // Distances wrap around the end of the table.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.entries.swap(hole, next);
                hole = next;
            }
            next = (next + 1) & mask;
        }
        removed.value
    }
}

/// Returns the index of the table for a hash. The upper bits choose the table, and the lower bits choose the place in
/// that table.
fn table_of(hash: u32) -> usize {
    (hash >> (32 - TABLE_BITS)) as usize
}

/// Hashes keys and numbers with one seed, for point lookups and for the priorities of `IntervalTree`.
///
/// Two 64-bit words at a time are mixed with secrets derived from the seed, multiplied to 128 bits, and folded. No set
/// of keys is known that collides under most seeds. The hash is not cryptographic and its 32 bits collide by chance. A
/// client that knows the seed, or finds it by timing lookups, can compute keys that collide. The seed of std's hasher
/// cannot be found by timing. However, std's hasher costs several times as much for the short keys of a coordination
/// store.
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
            // Zero padding makes tails of different lengths equal, so the length is mixed in below.
            let (low, high) = if tail.len() > 8 { tail.split_at(8) } else { (tail, &[][..]) };
            state = fold(state ^ left ^ padded(low), right ^ padded(high));
        }
        // Mix the length into the folded state, which depends on the seed. If the length were mixed into a word of the
        // key, the bytes of that word could cancel it under every seed.
        (fold(state ^ key.len() as u64, right) >> 32) as u32
    }

    pub(in crate::engine) fn number(&self, number: i64) -> u32 {
        let [start, left, right] = self.secrets;
        let state = fold(start ^ number.cast_unsigned(), left);
        (fold(state, right) >> 32) as u32
    }
}

/// Multiplies two words to 128 bits, and combines both halves of the product with XOR.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Returns the first eight bytes as a number.
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("a word has eight bytes"))
}

/// Returns up to eight bytes as a number, padded with zeros.
fn padded(bytes: &[u8]) -> u64 {
    let mut filled = [0; 8];
    filled[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(filled)
}

/// Returns the next word of SplitMix64 (Steele, Lea and Flood, 2014), which spreads a seed into independent words.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
