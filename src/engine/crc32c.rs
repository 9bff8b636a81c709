//! CRC-32 with the Castagnoli polynomial, reflected: of HashKV, and of saves.

/// The checksum of the bytes written to it so far.
#[derive(Debug)]
pub(crate) struct Crc32c(u32);

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

impl Crc32c {
    pub(crate) const fn new() -> Self {
        Self(!0)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 >> 8 ^ TABLE[usize::from(self.0 as u8 ^ byte)];
        }
    }

    pub(crate) const fn finish(&self) -> u32 {
        !self.0
    }
}
