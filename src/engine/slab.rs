//! A table of values under small numbers, in fixed segments, so that growing it moves one segment at the most.

/// Entries of a segment. The first segment grows like a `Vec`, so that a small store stays small.
pub(super) const SEGMENT: usize = 4096;

#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    segments: Vec<Vec<Option<T>>>,
    vacant: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { segments: Vec::new(), vacant: Vec::new() }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        let full = self.segments.len().saturating_sub(1) * SEGMENT;
        full + self.segments.last().map_or(0, Vec::len) - self.vacant.len()
    }

    /// Returns how many values the allocated segments have room for.
    pub(super) fn slots(&self) -> usize {
        self.segments.iter().map(Vec::capacity).sum()
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.vacant.pop() {
            let (segment, offset) = split(id);
            self.segments[segment][offset] = Some(value);
            return id;
        }
        if self.segments.last().is_none_or(|segment| segment.len() == SEGMENT) {
            let capacity = if self.segments.is_empty() { 0 } else { SEGMENT };
            self.segments.push(Vec::with_capacity(capacity));
        }
        let last = self.segments.len() - 1;
        let offset = self.segments[last].len();
        self.segments[last].push(Some(value));
        u32::try_from(last * SEGMENT + offset).expect("fewer than 2^32 entries fit into memory")
    }

    /// The value under `id`, if there is one.
    pub(super) fn get(&self, id: u32) -> Option<&T> {
        let (segment, offset) = split(id);
        self.segments.get(segment)?.get(offset)?.as_ref()
    }

    /// The value under an id that is in use.
    pub(super) fn at(&self, id: u32) -> &T {
        let (segment, offset) = split(id);
        self.segments[segment][offset].as_ref().expect("an id in an index names a value that exists")
    }

    /// The value under an id that is in use.
    pub(super) fn at_mut(&mut self, id: u32) -> &mut T {
        let (segment, offset) = split(id);
        self.segments[segment][offset].as_mut().expect("an id in an index names a value that exists")
    }

    /// Takes out the value under an id that is in use; the id may be given to another value.
    pub(super) fn remove(&mut self, id: u32) -> T {
        let (segment, offset) = split(id);
        let value =
            self.segments[segment][offset].take().expect("an id in an index names a value that exists");
        self.vacant.push(id);
        value
    }

    /// The values with their ids, in the order of the ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.segments.iter().flatten().zip(0..).filter_map(|(value, id)| Some((id, value.as_ref()?)))
    }
}

fn split(id: u32) -> (usize, usize) {
    (id as usize / SEGMENT, id as usize % SEGMENT)
}
