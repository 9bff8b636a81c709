//! A table of values under small numbers, in fixed segments, so that growing it moves one segment at the most.
//!
//! A new value is stored in the lowest segment with a vacancy. Segments without values are freed, except one, so that
//! values that come and go at the edge of a segment do not allocate each time.

/// Entries of a segment. The first segment grows like a `Vec`, so that a small store stays small.
pub(in crate::engine) const SEGMENT: usize = 4096;

/// The largest capacity that a table without values keeps.
const KEPT: usize = 64;

#[derive(Clone, Debug)]
pub(in crate::engine) struct Slab<T> {
    segments: Vec<Segment<T>>,
    /// The segments with a vacancy, the lowest last.
    open: Vec<u32>,
    len: usize,
    /// The allocated segment without values, if there is one.
    spare: Option<u32>,
}

#[derive(Clone, Debug)]
struct Segment<T> {
    entries: Vec<Option<T>>,
    /// The offsets of entries without a value.
    vacant: Vec<u16>,
}

impl<T> Segment<T> {
    const fn new() -> Self {
        Self { entries: Vec::new(), vacant: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.entries.len() == SEGMENT && self.vacant.is_empty()
    }

    fn is_vacant(&self) -> bool {
        self.entries.len() == self.vacant.len()
    }
}

impl<T> Slab<T> {
    pub(in crate::engine) const fn new() -> Self {
        Self { segments: Vec::new(), open: Vec::new(), len: 0, spare: None }
    }

    /// How many values there are.
    pub(in crate::engine) fn len(&self) -> usize {
        self.len
    }

    /// Returns how many values the allocated segments have room for.
    pub(in crate::engine) fn slots(&self) -> usize {
        self.segments.iter().map(|segment| segment.entries.capacity()).sum()
    }

    pub(in crate::engine) fn insert(&mut self, value: T) -> u32 {
        let at = self.open.last().copied().unwrap_or_else(|| self.add_segment());
        let segment = &mut self.segments[at as usize];
        let offset = if let Some(offset) = segment.vacant.pop() {
            segment.entries[usize::from(offset)] = Some(value);
            usize::from(offset)
        } else {
            if at > 0 && segment.entries.capacity() == 0 {
                segment.entries.reserve_exact(SEGMENT);
            }
            segment.entries.push(Some(value));
            segment.entries.len() - 1
        };
        self.len += 1;
        self.spare.take_if(|spare| *spare == at);
        if segment.is_full() {
            self.open.pop();
        }
        at * SEGMENT as u32 + offset as u32
    }

    /// Adds a segment. All others are full.
    fn add_segment(&mut self) -> u32 {
        let at = self.segments.len();
        assert!(at < u32::MAX as usize / SEGMENT, "fewer than 2^32 entries fit into memory");
        self.segments.push(Segment::new());
        self.open.push(at as u32);
        at as u32
    }

    /// The value under `id`, if there is one.
    pub(in crate::engine) fn get(&self, id: u32) -> Option<&T> {
        let (segment, offset) = split(id);
        self.segments.get(segment)?.entries.get(offset)?.as_ref()
    }

    /// The value under an id that is in use.
    pub(in crate::engine) fn at(&self, id: u32) -> &T {
        let (segment, offset) = split(id);
        self.segments[segment].entries[offset].as_ref().expect("an id in an index names a value that exists")
    }

    /// The value under an id that is in use.
    pub(in crate::engine) fn at_mut(&mut self, id: u32) -> &mut T {
        let (segment, offset) = split(id);
        self.segments[segment].entries[offset].as_mut().expect("an id in an index names a value that exists")
    }

    /// Takes out the value under an id that is in use; the id may be given to another value.
    pub(in crate::engine) fn remove(&mut self, id: u32) -> T {
        let (at, offset) = split(id);
        let segment = &mut self.segments[at];
        let was_full = segment.is_full();
        let value = segment.entries[offset].take().expect("an id in an index names a value that exists");
        segment.vacant.push(offset as u16);
        let is_vacant = segment.is_vacant();
        self.len -= 1;
        if was_full {
            let place = self.open.partition_point(|&open| open > at as u32);
            self.open.insert(place, at as u32);
        }
        if self.len == 0 {
            self.clear();
        } else if is_vacant {
            self.free_all_but_one(at as u32);
        }
        value
    }

    /// Keeps the lower of the spare segment and the one that just became vacant, and frees the other.
    fn free_all_but_one(&mut self, vacant: u32) {
        let spare = self.spare.unwrap_or(vacant);
        self.spare = Some(spare.min(vacant));
        if spare != vacant {
            self.segments[spare.max(vacant) as usize] = Segment::new();
        }
    }

    /// Frees everything except a small first segment. The table has no values.
    fn clear(&mut self) {
        self.segments.truncate(1);
        self.segments.shrink_to_fit();
        let first = &mut self.segments[0];
        if first.entries.capacity() > KEPT {
            *first = Segment::new();
        }
        self.open.clear();
        self.open.push(0);
        self.spare = None;
    }

    /// The values with their ids, in the order of the ids.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let segments = self.segments.iter().zip((0..).step_by(SEGMENT));
        let entries = segments.flat_map(|(segment, first)| segment.entries.iter().zip(first..));
        entries.filter_map(|(value, id)| Some((id, value.as_ref()?)))
    }
}

fn split(id: u32) -> (usize, usize) {
    (id as usize / SEGMENT, id as usize % SEGMENT)
}
