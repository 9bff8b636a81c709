//! A second implementation of the snapshot format, for snapshots with valid checksums that no store would write.

const MAGIC: &[u8; 12] = b"\x89leasehold\r\n";

/// Returns the CRC-32C of bytes, computed bit by bit.
pub fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// The format that a store writes.
pub const FORMAT: u32 = 2;

/// The length of the field that format 2 added before the fields of format 1: the current revision.
pub const CURRENT_LEN: usize = 8;

/// Returns a snapshot with this payload in chunks of at most `chunk` bytes.
pub fn framed(format: u32, payload: &[u8], chunk: usize) -> Vec<u8> {
    let mut summed = [&MAGIC[..], &format.to_le_bytes()].concat();
    let mut save = [&summed[..], &crc(&summed).to_le_bytes()].concat();
    // Each checksum covers everything before it, so a chunk is valid only in its place. An empty chunk ends the snapshot.
    for piece in payload.chunks(chunk).chain([&[][..]]) {
        let piece = [&(piece.len() as u32).to_le_bytes(), piece].concat();
        summed.extend_from_slice(&piece);
        save.extend_from_slice(&piece);
        save.extend_from_slice(&crc(&summed).to_le_bytes());
    }
    save
}

/// Returns the payload of a snapshot.
pub fn payload(save: &[u8]) -> Vec<u8> {
    // The header has 12 magic bytes, 4 bytes of format and 4 of checksum.
    let (mut payload, mut rest) = (Vec::new(), &save[20..]);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (piece, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        payload.extend_from_slice(piece);
        rest = &after[4..];
    }
    payload
}

/// A state in the numbers of the format, valid or not.
#[derive(Clone, Debug)]
pub struct State {
    pub format: u32,
    /// The current revision, saved since format 2.
    pub current: i64,
    pub compacted: i64,
    pub next_id: i64,
    pub next_sequence: u64,
    pub leases: Vec<Lease>,
    pub alarms: Vec<(u64, u8)>,
    pub versions: Vec<Version>,
}

/// Id, TTL, sequence, kind, time.
pub type Lease = (i64, (u64, u32), u64, u8, (u64, u32));

#[derive(Clone, Debug)]
pub struct Version {
    pub numbers: [i64; 4],
    pub sub: u32,
    pub key: &'static str,
    pub value: &'static str,
}

pub const CREATE: usize = 0;
pub const VERSION: usize = 2;
pub const LEASE: usize = 3;

pub fn version(key: &'static str, [create, modified, version, lease]: [i64; 4], sub: u32) -> Version {
    let value = if version == 0 { "" } else { "v" };
    Version { numbers: [create, modified, version, lease], sub, key, value }
}

impl State {
    /// Returns a valid state that is compacted at 5, where a compaction dropped one of three changes.
    pub fn good() -> Self {
        let manual = (7, (10, 0), 2, 0, (9, 999_999_999));
        let automatic = (-1, (9, 0), 4, 1, (2, 999_999_999));
        Self {
            format: FORMAT,
            current: 7,
            compacted: 5,
            next_id: 3,
            next_sequence: 5,
            leases: vec![manual, automatic],
            alarms: vec![(1, 1), (1, 2), (2, 1)],
            versions: vec![
                version("old", [2, 4, 2, 99], 3),
                version("b", [5, 5, 1, 0], 0),
                version("gone", [0, 5, 0, 0], 2),
                version("old", [2, 6, 3, 7], 0),
                version("gone", [6, 6, 1, 0], 1),
                version("gone", [0, 7, 0, 0], 0),
                version("gone", [7, 7, 1, -1], 1),
            ],
        }
    }

    pub fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.format > 1 {
            bytes.extend(self.current.to_le_bytes());
        }
        bytes.extend(self.compacted.to_le_bytes());
        bytes.extend(self.next_id.to_le_bytes());
        bytes.extend(self.next_sequence.to_le_bytes());
        for count in [self.leases.len(), self.alarms.len(), self.versions.len()] {
            bytes.extend((count as u64).to_le_bytes());
        }
        for (id, ttl, sequence, kind, time) in &self.leases {
            bytes.extend(id.to_le_bytes());
            bytes.extend([&ttl.0.to_le_bytes()[..], &ttl.1.to_le_bytes()].concat());
            bytes.extend(sequence.to_le_bytes());
            bytes.push(*kind);
            bytes.extend([&time.0.to_le_bytes()[..], &time.1.to_le_bytes()].concat());
        }
        for (member, kind) in &self.alarms {
            bytes.extend(member.to_le_bytes());
            bytes.push(*kind);
        }
        for version in &self.versions {
            bytes.extend(version.numbers.iter().flat_map(|number| number.to_le_bytes()));
            bytes.extend(version.sub.to_le_bytes());
            bytes.extend((version.key.len() as u32).to_le_bytes());
            bytes.extend((version.value.len() as u32).to_le_bytes());
            bytes.extend([version.key, version.value].concat().as_bytes());
        }
        framed(self.format, &bytes, 65_536)
    }
}
