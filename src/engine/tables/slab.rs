//! A table of values with small numbers as ids, stored in segments of fixed size. Growth moves at most one segment.
//!
//! A new value is stored in the lowest segment with a vacancy. Of the segments without values, one stays allocated and
//! the others are freed. Inserting and removing in turn at the edge of a segment therefore does not allocate each time.

/// The number of entries in a segment. The first segment grows like a `Vec`, so that a small store stays small.
pub(in crate::engine) const SEGMENT: usize = 4096;

/// The largest capacity that a table without values keeps.
const KEPT: usize = 64;

#[derive(Clone, Debug)]
pub(in crate::engine) struct Slab<T> {
    segments: Vec<Segment<T>>,
    /// The indexes of the segments with a vacancy, in descending order.
    open: Vec<u32>,
    len: usize,
    /// The index of the segment that is allocated but has no values, if there is one.
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

    /// Returns the number of values.
    pub(in crate::engine) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of values that the allocated segments have room for.
    pub(in crate::engine) fn slots(&self) -> usize {
        self.segments.iter().map(|segment| segment.entries.capacity()).sum()
    }

    pub(in crate::engine) fn insert(&mut self, value: T) -> u32 {
        // `open` is sorted with the lowest segment last, so low segments fill first and high segments can become
        // vacant.
        let at = self.open.last().copied().unwrap_or_else(|| self.add_segment());
        let segment = &mut self.segments[at as usize];
        let offset = if let Some(offset) = segment.vacant.pop() {
            segment.entries[usize::from(offset)] = Some(value);
            usize::from(offset)
        } else {
            // Allocate a whole segment at once, so that it never moves. The first segment grows instead.
            if at > 0 && segment.entries.capacity() == 0 {
                segment.entries.reserve_exact(SEGMENT);
            }
            segment.entries.push(Some(value));
            segment.entries.len() - 1
        };
        self.len += 1;
        // A segment with a value is not the spare segment.
        self.spare.take_if(|spare| *spare == at);
        if segment.is_full() {
            self.open.pop();
        }
        // `add_segment` bounds `at`, so this does not overflow.
        at * SEGMENT as u32 + offset as u32
    }

    /// Adds a segment and returns its index. Called when all other segments are full.
    fn add_segment(&mut self) -> u32 {
        let at = self.segments.len();
        assert!(at < u32::MAX as usize / SEGMENT, "a table has fewer than 2^32 entries");
        self.segments.push(Segment::new());
        self.open.push(at as u32);
        at as u32
    }

    /// Returns the value with an id, or `None` if the id is not in use.
    pub(in crate::engine) fn get(&self, id: u32) -> Option<&T> {
        let (segment, offset) = split(id);
        self.segments.get(segment)?.entries.get(offset)?.as_ref()
    }

    /// Returns the value of an id that is in use.
    pub(in crate::engine) fn at(&self, id: u32) -> &T {
        let (segment, offset) = split(id);
        self.segments[segment].entries[offset].as_ref().expect("an id in an index names a value that exists")
    }

    /// Returns the value of an id that is in use.
    pub(in crate::engine) fn at_mut(&mut self, id: u32) -> &mut T {
        let (segment, offset) = split(id);
        self.segments[segment].entries[offset].as_mut().expect("an id in an index names a value that exists")
    }

    /// Removes the value of an id that is in use, and returns it. A later insert may return the id again.
    pub(in crate::engine) fn remove(&mut self, id: u32) -> T {
        let (at, offset) = split(id);
        let segment = &mut self.segments[at];
        let was_full = segment.is_full();
        let value = segment.entries[offset].take().expect("an id in an index names a value that exists");
        segment.vacant.push(offset as u16);
        let is_vacant = segment.is_vacant();
        self.len -= 1;
        // A full segment is not in `open`. Insert it where the descending order puts it.
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

    /// Makes the segment `vacant`, which just lost its last value, the spare segment. If there is a spare segment
    /// already, keeps the one with the lower index and frees the other segment.
    fn free_all_but_one(&mut self, vacant: u32) {
        let spare = self.spare.unwrap_or(vacant);
        self.spare = Some(spare.min(vacant));
        if spare != vacant {
            self.segments[spare.max(vacant) as usize] = Segment::new();
        }
    }

    /// Frees the memory of the segments, except the first segment if its capacity is at most `KEPT`. The table must have
    /// no values.
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

    /// Returns the ids and values in ascending order of ids.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        // Segment `n` has the ids from `n * SEGMENT` on, even while the segment is freed and has no entries.
        let segments = self.segments.iter().zip((0..).step_by(SEGMENT));
        let entries = segments.flat_map(|(segment, first)| segment.entries.iter().zip(first..));
        entries.filter_map(|(value, id)| Some((id, value.as_ref()?)))
    }
}

/// Returns the segment and the offset of an id.
fn split(id: u32) -> (usize, usize) {
    (id as usize / SEGMENT, id as usize % SEGMENT)
}
