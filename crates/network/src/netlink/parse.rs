//! Messages and attributes as the kernel sends them.

/// One message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    /// What follows the netlink header.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after a fixed header of this length.
    pub(crate) fn attributes(&self, header: usize) -> Attributes<'a> {
        Attributes(self.payload.get(header..).unwrap_or_default())
    }
}

/// The messages of one datagram; ends at the first that is cut.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..16)?;
        let size = u32_ne(&header[..4])? as usize;
        let payload = bytes.get(16..size)?;
        let message = Message { kind: u16_ne(&header[4..6])?, sequence: u32_ne(&header[8..12])?, payload };
        bytes = bytes.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes in a row: type without flags, and value. Ends at the first that is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let size = usize::from(u16_ne(self.0.get(..2)?)?);
        let kind = u16_ne(self.0.get(2..4)?)? & 0x3fff;
        let value = self.0.get(4..size)?;
        self.0 = self.0.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The first attribute of a type.
    pub(crate) fn get(mut self, wanted: u16) -> Option<&'a [u8]> {
        self.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    /// The first attribute of a type, taken apart.
    pub(crate) fn nested(self, wanted: u16) -> Self {
        Self(self.get(wanted).unwrap_or_default())
    }
}

/// Text up to its terminator; empty where it is no UTF-8.
pub(crate) fn text(value: &[u8]) -> &str {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or_default()
}

pub(crate) fn u16_ne(value: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?))
}

pub(crate) fn u32_ne(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

pub(crate) fn u16_be(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(value.get(..2)?.try_into().ok()?))
}

pub(crate) fn u32_be(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_are_too_wild(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                for (_, value) in message.attributes(4) {
                    prop_assert!(Attributes(value).count() <= value.len());
                }
            }
        }
    }
}
