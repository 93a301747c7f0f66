//! Bytes of journals and snapshots: headers and frames. Pure: bytes in, values out.

/// The version of all formats here; another one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of a [`Header`].
pub(super) const HEADER_BYTES: usize = 40;

/// Bytes in front of a frame's payload.
pub(super) const FRAME_HEAD_BYTES: usize = 20;

/// Longest payload of a frame: a batch holds whole updates, an update fits a frame between replicas, 8 MiB of JSON, and
/// is shorter here. Twice that leaves room for what a replica makes itself.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first bytes of a frame. None of them occurs in UTF-8, so no note's text holds them.
const FRAME_MAGIC: [u8; 4] = [0xFE, 0xF5, 0xFC, 0xFF];

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Journal,
    Snapshot,
    Mark,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Kind::Journal => b"PRIMACYJ",
            Kind::Snapshot => b"PRIMACYS",
            Kind::Mark => b"PRIMACYM",
        }
    }
}

/// How segments and snapshots begin; a mark is nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The store that the file is part of.
    pub(super) store: u64,
    /// The segment's number; a snapshot's is that of the first segment that it does not cover, a mark's that of the last.
    pub(super) number: u64,
    /// The sequence number of the segment's first frame; a snapshot's is that of the first one that it does not cover, a
    /// mark's that of the last durable one.
    pub(super) sequence: u64,
}

/// Why bytes are no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// A whole header of a version that this program does not know.
    Version(u32),
    /// Anything else.
    Broken,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(self.kind.magic());
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.store.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.number.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.sequence.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Magic, version and checksum stand where they do in every version.
    pub(super) fn decode(kind: Kind, bytes: &[u8]) -> Result<Header, NoHeader> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>().ok_or(NoHeader::Broken)?;
        if bytes[..8] != *kind.magic() || crc32c::crc32c(&bytes[..36]) != u32_at(bytes, 36) {
            return Err(NoHeader::Broken);
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => {
                Ok(Header { kind, store: u64_at(bytes, 12), number: u64_at(bytes, 20), sequence: u64_at(bytes, 28) })
            }
            other => Err(NoHeader::Version(other)),
        }
    }
}

/// The front of a frame, not yet compared with its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) payload_bytes: usize,
    pub(super) sequence: u64,
    checksum: u32,
}

impl FrameHead {
    /// None where these bytes begin no frame that this program could have written.
    pub(super) fn decode(bytes: &[u8]) -> Option<FrameHead> {
        let bytes = bytes.first_chunk::<FRAME_HEAD_BYTES>()?;
        let payload_bytes = u32_at(bytes, 4) as usize;
        (bytes[..4] == FRAME_MAGIC && payload_bytes <= PAYLOAD_BYTES_MAX).then(|| FrameHead {
            payload_bytes,
            sequence: u64_at(bytes, 8),
            checksum: u32_at(bytes, 16),
        })
    }

    /// Whether this payload is the one that was written behind this head.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_bytes && checksum(self.payload_bytes, self.sequence, payload) == self.checksum
    }
}

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) sequence: u64,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// How many bytes it takes in the file.
    pub(super) fn length(&self) -> usize {
        FRAME_HEAD_BYTES + self.payload.len()
    }
}

/// The frame at the start of `bytes`, where there is a whole one.
pub(super) fn frame_at(bytes: &[u8]) -> Option<Frame<'_>> {
    let head = FrameHead::decode(bytes)?;
    let payload = bytes[FRAME_HEAD_BYTES..].get(..head.payload_bytes)?;
    head.fits(payload).then_some(Frame { sequence: head.sequence, payload })
}

/// The first offset at which a whole frame begins, wherever that is.
pub(super) fn find_frame(bytes: &[u8]) -> Option<usize> {
    let starts = bytes.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, window)| *window == FRAME_MAGIC);
    starts.map(|(at, _)| at).find(|at| frame_at(&bytes[*at..]).is_some())
}

/// Writes the head of a frame whose payload is already in `frame`, behind [`FRAME_HEAD_BYTES`] bytes kept free for it.
///
/// # Panics
///
/// Where the payload is longer than [`PAYLOAD_BYTES_MAX`], which who fills frames has to see to.
pub(super) fn seal_frame(frame: &mut [u8], sequence: u64) {
    let (head, payload) = frame.split_at_mut(FRAME_HEAD_BYTES);
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a payload of {} bytes was let into a frame", payload.len());
    head[..4].copy_from_slice(&FRAME_MAGIC);
    head[4..8].copy_from_slice(&length_bytes(payload.len()));
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    head[16..].copy_from_slice(&checksum(payload.len(), sequence, payload).to_le_bytes());
}

/// CRC-32C over everything in the frame but itself.
fn checksum(payload_bytes: usize, sequence: u64, payload: &[u8]) -> u32 {
    let mut front = [0; 16];
    front[..4].copy_from_slice(&FRAME_MAGIC);
    front[4..8].copy_from_slice(&length_bytes(payload_bytes));
    front[8..].copy_from_slice(&sequence.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&front), payload)
}

fn length_bytes(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("payloads are at most 16 MiB").to_le_bytes()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..].first_chunk().expect("the caller took a chunk that reaches past the number");
    u32::from_le_bytes(*bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..].first_chunk().expect("the caller took a chunk that reaches past the number");
    u64::from_le_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; FRAME_HEAD_BYTES];
        frame.extend_from_slice(payload);
        seal_frame(&mut frame, sequence);
        frame
    }

    #[test]
    fn a_frame_cut_or_changed_at_any_byte_is_none() {
        let whole = frame(7, b"payload");
        assert_eq!(frame_at(&whole), Some(Frame { sequence: 7, payload: b"payload" }));
        for at in 0..whole.len() {
            assert_eq!(frame_at(&whole[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(frame_at(&flipped), None, "bit {bit} of byte {at} flipped");
            }
        }
    }

    #[test]
    fn a_frame_is_found_behind_rubbish() {
        let mut bytes = vec![0xFE, 0xF5, 0xFC, 0xFF, 1, 2, 3];
        bytes.extend(frame(1, b"a"));
        assert_eq!(find_frame(&bytes), Some(7));
        assert_eq!(find_frame(&bytes[..26]), None);
    }

    #[test]
    fn a_header_changed_at_any_byte_is_broken_and_a_later_version_is_told() {
        let header = Header { kind: Kind::Journal, store: 1, number: 2, sequence: 3 };
        let bytes = header.encode();
        assert_eq!(Header::decode(Kind::Journal, &bytes), Ok(header));
        assert_eq!(Header::decode(Kind::Snapshot, &bytes), Err(NoHeader::Broken));
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 0x10;
            assert_eq!(Header::decode(Kind::Journal, &flipped), Err(NoHeader::Broken), "byte {at}");
        }
        let mut later = bytes;
        later[8] = 2;
        let checksum = crc32c::crc32c(&later[..36]);
        later[36..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Header::decode(Kind::Journal, &later), Err(NoHeader::Version(2)));
    }
}
