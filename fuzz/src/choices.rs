//! The fuzzer's bytes as choices.

/// Reads one byte a choice, so that a change of a byte is a change of one choice. When the bytes are over, every choice
/// is the first of its alternatives.
///
/// Written by hand rather than derived: the corpus keeps its meaning whatever becomes of a derive's encoding.
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

    /// A number below `end`.
    pub fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    pub fn one_of<T: Clone>(&mut self, alternatives: &[T]) -> T {
        alternatives[usize::from(self.byte()) % alternatives.len()].clone()
    }

    /// Eight choices at once.
    pub fn flags(&mut self) -> Flags {
        Flags(self.byte())
    }

    /// All that is left; a target that goes on after that makes first choices.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes).to_vec()
    }

    /// Up to `longest` bytes, as they are.
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

    /// The number that the bits from one on make.
    pub fn from(self, bit: u8) -> u8 {
        self.0 >> bit
    }

    /// Half as likely: both bits.
    pub fn has_both(self, bits: [u8; 2]) -> bool {
        bits.into_iter().all(|bit| self.has(bit))
    }
}
