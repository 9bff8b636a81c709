//! Point lookups: from the hash of a key to its number, and to what is wanted first of it.
//!
//! The caller compares keys where they are. The order of the entries depends on the seed of the hash and is never
//! observed: there is no way to iterate.

/// Cut into this many tables, each growing alone, so that no insert pays for moving all entries at once.
const TABLES: usize = 64;
const TABLE_BITS: u32 = TABLES.trailing_zeros();

#[derive(Clone, Debug)]
pub(super) struct PointIndex<T> {
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

impl<T: Clone> PointIndex<T> {
    pub(super) fn new() -> Self {
        Self { tables: vec![Table { entries: Vec::new(), used: 0 }; TABLES] }
    }
}

impl<T> PointIndex<T> {
    /// The id and value under `hash` of which `is_it` says that they are those meant.
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32, &T) -> bool) -> Option<(u32, &T)> {
        let table = &self.tables[table_of(hash)];
        let entry = table.entries[table.find(hash, is_it)?].as_ref()?;
        Some((entry.id, &entry.value))
    }

    /// The value of an id that is there.
    pub(super) fn at(&self, hash: u32, id: u32) -> &T {
        let (_, value) = self.find(hash, |found, _| found == id).expect("an id is found under its hash");
        value
    }

    /// The value of an id that is there.
    pub(super) fn at_mut(&mut self, hash: u32, id: u32) -> &mut T {
        let table = &mut self.tables[table_of(hash)];
        let at = table.find(hash, |found, _| found == id).expect("an id is found under its hash");
        &mut table.entries[at].as_mut().expect("an entry was just found there").value
    }

    /// Adds an id that is not there yet.
    pub(super) fn insert(&mut self, hash: u32, id: u32, value: T) {
        let table = &mut self.tables[table_of(hash)];
        if (table.used + 1) * 5 > table.entries.len() * 4 {
            table.resize((table.entries.len() * 2).max(8));
        }
        table.place(Entry { hash, id, value });
        table.used += 1;
    }

    /// Removes an id that is there.
    pub(super) fn remove(&mut self, hash: u32, id: u32) -> T {
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
    pub(super) fn len(&self) -> usize {
        self.tables.iter().map(|table| table.used).sum()
    }

    /// Returns how many places the longest search for an entry visits.
    pub(super) fn longest_probe(&self) -> usize {
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
