//! The fixed 512-byte header block, as in `ustar.h`, and the numbers in it.

use super::BLOCK;
use crate::error::{Error, Result};

/// Which dialect a header speaks; it decides what the bytes after the magic mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Before POSIX: no magic, no prefix.
    V7,
    /// `ustar\0` `00`: prefix of 155 bytes.
    Ustar,
    /// As ustar, marked `tar\0` at the end: prefix of 131 bytes.
    Star,
    /// `ustar  \0`: no prefix, sparse maps instead.
    Gnu,
}

/// A header block whose checksum is right.
#[derive(Debug)]
pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// Checks the checksum: the sum of all bytes with the field itself as blanks; some old writers summed signed bytes.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self> {
        let wanted = number(&block[148..156])?;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if wanted != unsigned && wanted != signed {
            return Err(Error::Header("wrong checksum"));
        }
        Ok(Self(block))
    }

    pub(super) fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => {
                if &self.0[508..512] == b"tar\0" {
                    Dialect::Star
                } else {
                    Dialect::Ustar
                }
            }
            _ => Dialect::V7,
        }
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    /// The path: prefix, slash and name where the dialect has a prefix.
    pub(super) fn path(&self) -> Vec<u8> {
        let prefix = match self.dialect() {
            Dialect::Ustar => text(&self.0[345..500]),
            Dialect::Star => text(&self.0[345..476]),
            Dialect::Gnu | Dialect::V7 => &[],
        };
        let name = text(&self.0[0..100]);
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32> {
        // Some writers keep the file type in the upper bits.
        Ok((number(&self.0[100..108])? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u32> {
        u32::try_from(number(&self.0[108..116])?).map_err(|_| Error::Header("owner out of range"))
    }

    pub(super) fn gid(&self) -> Result<u32> {
        u32::try_from(number(&self.0[116..124])?).map_err(|_| Error::Header("group out of range"))
    }

    pub(super) fn size(&self) -> Result<u64> {
        size(&self.0[124..136])
    }

    pub(super) fn modified(&self) -> Result<i64> {
        number(&self.0[136..148])
    }

    pub(super) fn device(&self) -> Result<(u32, u32)> {
        if self.dialect() == Dialect::V7 {
            return Ok((0, 0));
        }
        let part = |field| u32::try_from(number(field)?).map_err(|_| Error::Header("device out of range"));
        Ok((part(&self.0[329..337])?, part(&self.0[337..345])?))
    }
}

/// A text field: up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number that counts bytes.
pub(super) fn size(field: &[u8]) -> Result<u64> {
    u64::try_from(number(field)?).map_err(|_| Error::Header("negative size"))
}

/// A numeric field: octal digits between blanks and NULs, or (GNU, star) a big-endian two's complement number whose
/// first bit is set.
pub(super) fn number(field: &[u8]) -> Result<i64> {
    if field[0] & 0x80 != 0 {
        return binary(field);
    }
    let start = field.iter().position(|byte| !matches!(byte, 0 | b' ')).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err(Error::Header("number with text after it"));
    }
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value
            .checked_mul(8)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .ok_or(Error::Header("number too large")),
        _ => Err(Error::Header("number with a digit that is not octal")),
    })
}

fn binary(field: &[u8]) -> Result<i64> {
    // Sign-extend the first byte's remaining seven bits.
    let mut value = if field[0] & 0x40 != 0 { -1i64 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = if at == 0 { (byte & 0x7f) | if value < 0 { 0x80 } else { 0 } } else { *byte };
        // One bit less than fits, so that every number read can be negated and written again.
        if !(-(1i64 << 54)..1i64 << 54).contains(&value) {
            return Err(Error::Header("number too large"));
        }
        value = (value << 8) | i64::from(byte);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_notations() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   755 \0", 0o755),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777777 ", 0o77777777777),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", 1 << 33),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(number(field).unwrap(), value, "{field:?}");
        }
    }

    #[test]
    fn numbers_that_are_none() {
        for field in [
            &b"0000689\0"[..],
            b"12 34\0\0\0",
            b"-1\0\0\0\0\0\0",
            b"\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(number(field).is_err(), "{field:?}");
        }
        assert!(size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe").is_err());
    }
}
