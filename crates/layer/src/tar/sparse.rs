//! Maps of sparse files: the old GNU header, PAX 0.0 and 0.1 records, and PAX 1.0, whose map comes before the data.

use std::io::Read;

use super::BLOCK;
use super::header::{number, size};
use super::pax::{Record, decimal};
use crate::error::{Error, Result};

/// More segments than any writer makes for a real file; bounds the memory of a hostile map.
const MAX_SEGMENTS: usize = 1 << 20;

/// A part of a sparse file that the archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// Checks that segments are in order, do not overlap, stay in the file and are all of what is stored.
pub(super) fn check(segments: &[Segment], file_size: u64, stored: u64) -> Result<()> {
    let (mut end, mut total) = (0u64, 0u64);
    for segment in segments {
        if segment.offset < end {
            return Err(Error::Header("sparse map out of order"));
        }
        end = segment.offset.checked_add(segment.length).ok_or(Error::Header("sparse map out of range"))?;
        total += segment.length;
    }
    if end > file_size || total != stored {
        return Err(Error::Header("sparse map does not fit the file"));
    }
    Ok(())
}

/// The map of an old GNU header (type `S`): four segments in the header, 21 in each block that follows.
pub(super) fn old_gnu(header: &[u8; BLOCK], input: &mut impl Read) -> Result<(Vec<Segment>, u64)> {
    let real_size = size(&header[483..495])?;
    let mut segments = Vec::new();
    push_fields(&mut segments, &header[386..482])?;
    let mut more = header[482] != 0;
    while more {
        let mut block = [0; BLOCK];
        input.read_exact(&mut block)?;
        push_fields(&mut segments, &block[..504])?;
        more = block[504] != 0;
    }
    Ok((segments, real_size))
}

fn push_fields(segments: &mut Vec<Segment>, fields: &[u8]) -> Result<()> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 || field[12] == 0 {
            break;
        }
        number(&field[..12])?;
        push(segments, Segment { offset: size(&field[..12])?, length: size(&field[12..])? })?;
    }
    Ok(())
}

fn push(segments: &mut Vec<Segment>, segment: Segment) -> Result<()> {
    if segments.len() == MAX_SEGMENTS {
        return Err(Error::Header("sparse map too long"));
    }
    segments.push(segment);
    Ok(())
}

/// What PAX records say about a sparse file.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    version: Option<(u64, u64)>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    numbers: Vec<u64>,
    any: bool,
}

impl PaxSparse {
    /// Takes a `GNU.sparse.*` record.
    pub(super) fn take(&mut self, (key, value): Record<'_>) -> Result<()> {
        self.any = true;
        let (major, minor) = self.version.unwrap_or((0, 0));
        match key.strip_prefix(b"GNU.sparse.").unwrap_or_default() {
            b"major" => self.version = Some((decimal(value)?, minor)),
            b"minor" => self.version = Some((major, decimal(value)?)),
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.real_size = Some(decimal(value)?),
            // 0.0: alternating records, one number each.
            b"offset" if self.numbers.len().is_multiple_of(2) => self.numbers.push(decimal(value)?),
            b"numbytes" if self.numbers.len() % 2 == 1 => self.numbers.push(decimal(value)?),
            b"map" => self.numbers = value.split(|byte| *byte == b',').map(decimal).collect::<Result<_>>()?,
            b"numblocks" => {
                decimal(value)?;
            }
            _ => return Err(Error::Header("unknown sparse record")),
        }
        Ok(())
    }

    /// The map and the file's size, `None` when the member is not sparse. The 1.0 map is read from the data and
    /// taken off `stored`.
    pub(super) fn finish(
        self,
        input: &mut impl Read,
        stored: &mut u64,
    ) -> Result<Option<(Vec<Segment>, u64)>> {
        if !self.any {
            return Ok(None);
        }
        let real_size = self.real_size.ok_or(Error::Header("sparse file without a size"))?;
        let numbers = match self.version {
            None | Some((0, 0 | 1)) => self.numbers,
            Some((1, 0)) => {
                let (numbers, used) = map_in_data(input, *stored)?;
                *stored -= used;
                numbers
            }
            Some(_) => return Err(Error::Header("unknown sparse format")),
        };
        if numbers.len() % 2 != 0 || numbers.len() / 2 > MAX_SEGMENTS {
            return Err(Error::Header("malformed sparse map"));
        }
        let segments = numbers
            .chunks_exact(2)
            .map(|pair| Segment { offset: pair[0], length: pair[1] })
            .collect::<Vec<_>>();
        Ok(Some((segments, real_size)))
    }
}

/// Reads the decimal lines before the data, in whole blocks: the count of segments, then two numbers for each.
fn map_in_data(input: &mut impl Read, stored: u64) -> Result<(Vec<u64>, u64)> {
    let (mut numbers, mut used, mut line) = (Vec::new(), 0u64, Vec::new());
    let mut wanted = None;
    let mut block = [0; BLOCK];
    loop {
        used += BLOCK as u64;
        if used > stored {
            return Err(Error::Header("malformed sparse map"));
        }
        input.read_exact(&mut block)?;
        for byte in block {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let number = decimal(&line)?;
            line.clear();
            match wanted {
                None if number > MAX_SEGMENTS as u64 => return Err(Error::Header("sparse map too long")),
                None => wanted = Some(number as usize * 2),
                Some(_) => numbers.push(number),
            }
            if wanted == Some(numbers.len()) {
                return Ok((numbers, used));
            }
        }
    }
}
