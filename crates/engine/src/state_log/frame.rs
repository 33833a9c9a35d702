//! One frame of the log: length, checksum, JSON.

use std::io::{self, Read};

use flate2::Crc;
use serde::Serialize;

use crate::error::{Error, Result};

/// The first bytes of the file: what it is, and the version of its format.
pub(super) const MAGIC: &[u8] = b"wharf state log 1\n";
/// The longest payload that is believed, in bytes.
const MAX: usize = 16 << 20;
/// Bytes before the payload.
pub(super) const HEAD: usize = 8;

/// A frame around `entry`.
pub(super) fn encode<T: Serialize>(entry: &T) -> Result<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    serde_json::to_writer(&mut frame, entry)
        .map_err(|error| Error::internal(format!("encode record: {error}")))?;
    let (head, payload) = frame.split_at_mut(HEAD);
    let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= MAX);
    let length = length.ok_or_else(|| Error::invalid("the container's settings are too long to be kept"))?;
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&checksum(payload).to_le_bytes());
    Ok(frame)
}

/// The next payload. `None`: the end, clean or torn.
pub(super) fn read(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD];
    if !fill(reader, &mut head)? {
        return Ok(None);
    }
    let [a, b, c, d, rest @ ..] = head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX {
        return Ok(None);
    }
    let mut payload = vec![0; length];
    let whole = fill(reader, &mut payload)?;
    Ok((whole && checksum(&payload) == u32::from_le_bytes(rest)).then_some(payload))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Fills `buffer`; false when the input ends before.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
