//! The fuzzer's bytes as choices.

/// Reads one byte for each choice, so that a change of a byte changes one choice. After the last byte, every choice is
/// the first alternative.
///
/// The encoding is written by hand and not derived, so that the corpus keeps its meaning if a derive changes its
/// encoding.
#[derive(Debug)]
pub struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn are_over(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    pub fn one_of<T: Clone>(&mut self, alternatives: &[T]) -> T {
        alternatives[usize::from(self.byte()) % alternatives.len()].clone()
    }

    /// Reads eight choices at once.
    pub fn flags(&mut self) -> Flags {
        Flags(self.byte())
    }

    /// Reads the remaining bytes. All later choices are first alternatives.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes).to_vec()
    }

    /// Reads up to `longest` bytes unchanged.
    pub fn bytes(&mut self, longest: u8) -> Vec<u8> {
        let length = usize::from(self.below(longest + 1)).min(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken.to_vec()
    }
}

/// The bits of a byte.
#[derive(Clone, Copy, Debug)]
pub struct Flags(u8);

impl Flags {
    pub fn has(self, bit: u8) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Returns the number in the bits from `bit` on.
    pub fn from(self, bit: u8) -> u8 {
        self.0 >> bit
    }

    /// Returns whether both bits are set, which is half as likely as one.
    pub fn has_both(self, bits: [u8; 2]) -> bool {
        bits.into_iter().all(|bit| self.has(bit))
    }
}
