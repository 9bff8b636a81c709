//! The format of saves from outside: a payload in chunks, with every checksum right, so that what is changed is looked at
//! rather than found to be changed.

const MAGIC: [u8; 12] = *b"\x89leasehold\r\n";
const VERSION: u32 = 1;
const CHUNK_MAX: usize = 64 * 1024;

/// A save of that payload, in chunks of at most that many bytes.
pub(super) fn seal(payload: &[u8], chunk_len: usize) -> Vec<u8> {
    let mut save = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    let mut crc = Crc::new();
    crc.write(&save);
    save.extend(crc.finish());
    for chunk in payload.chunks(chunk_len.clamp(1, CHUNK_MAX)).chain([&[][..]]) {
        let length = (chunk.len() as u32).to_le_bytes();
        for part in [&length[..], chunk] {
            crc.write(part);
            save.extend_from_slice(part);
        }
        save.extend(crc.finish());
    }
    save
}

/// The payload of a save that was just made.
pub(super) fn unseal(save: &[u8]) -> Vec<u8> {
    let mut rest = &save[MAGIC.len() + 8..];
    let mut payload = Vec::new();
    loop {
        let (length, after) = rest.split_first_chunk().expect("a chunk has a length");
        let (chunk, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        if chunk.is_empty() {
            return payload;
        }
        payload.extend_from_slice(chunk);
        rest = &after[4..];
    }
}

/// CRC-32C, bit by bit.
struct Crc(u32);

impl Crc {
    fn new() -> Self {
        Self(!0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..8 {
                self.0 = self.0 >> 1 ^ if self.0 & 1 == 1 { 0x82f6_3b78 } else { 0 };
            }
        }
    }

    fn finish(&self) -> [u8; 4] {
        (!self.0).to_le_bytes()
    }
}
