//! Point lookups: from the hash of a key to the number under which a slab holds what belongs to it.
//!
//! Only numbers are stored; the caller compares keys where they are. The order of the entries depends on the seed and
//! is never observed: there is no way to iterate.

/// Cut into this many tables, each growing alone, so that no insert pays for moving all entries at once.
const TABLES: usize = 64;
const TABLE_BITS: u32 = TABLES.trailing_zeros();

#[derive(Clone, Debug)]
pub(super) struct PointIndex {
    tables: Vec<Table>,
}

/// Open addressing with linear probing. An entry is 0, or the hash above the id plus one.
#[derive(Clone, Debug, Default)]
struct Table {
    entries: Vec<u64>,
    used: usize,
}

impl PointIndex {
    pub(super) fn new() -> Self {
        Self { tables: vec![Table::default(); TABLES] }
    }

    /// The id under `hash` of which `is_it` says that it is the one meant.
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let table = &self.tables[table_of(hash)];
        if table.entries.is_empty() {
            return None;
        }
        let mask = table.entries.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let entry = table.entries[at];
            if entry == 0 {
                return None;
            }
            if hash_of(entry) == hash && is_it(id_of(entry)) {
                return Some(id_of(entry));
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds an id that is not there yet.
    pub(super) fn insert(&mut self, hash: u32, id: u32) {
        let table = &mut self.tables[table_of(hash)];
        if (table.used + 1) * 5 > table.entries.len() * 4 {
            table.grow();
        }
        table.place(u64::from(hash) << 32 | (u64::from(id) + 1));
        table.used += 1;
    }

    /// Removes an id that is there.
    pub(super) fn remove(&mut self, hash: u32, id: u32) {
        let table = &mut self.tables[table_of(hash)];
        let mask = table.entries.len() - 1;
        let sought = u64::from(hash) << 32 | (u64::from(id) + 1);
        let mut hole = hash as usize & mask;
        while table.entries[hole] != sought {
            assert!(
                table.entries[hole] != 0,
                "an id is removed from the index under the hash it was added with"
            );
            hole = (hole + 1) & mask;
        }
        // Entries behind the hole move up unless that would put them before the place where their search begins.
        let mut next = (hole + 1) & mask;
        while table.entries[next] != 0 {
            let home = hash_of(table.entries[next]) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                table.entries[hole] = table.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        table.entries[hole] = 0;
        table.used -= 1;
    }

    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.tables.iter().map(|table| table.used).sum()
    }
}

impl Table {
    fn grow(&mut self) {
        let doubled = vec![0; (self.entries.len() * 2).max(8)];
        for entry in std::mem::replace(&mut self.entries, doubled) {
            if entry != 0 {
                self.place(entry);
            }
        }
    }

    fn place(&mut self, entry: u64) {
        let mask = self.entries.len() - 1;
        let mut at = hash_of(entry) as usize & mask;
        while self.entries[at] != 0 {
            at = (at + 1) & mask;
        }
        self.entries[at] = entry;
    }
}

/// The table takes the upper bits, the place inside it the lower ones.
fn table_of(hash: u32) -> usize {
    (hash >> (32 - TABLE_BITS)) as usize
}

fn hash_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

fn id_of(entry: u64) -> u32 {
    (entry & u64::from(u32::MAX)) as u32 - 1
}
