//! The tar format: POSIX ustar and PAX (IEEE Std 1003.1, pax), GNU and star extensions.
//!
//! The reader accepts what the common writers produce and refuses what common readers would understand differently, since
//! such an archive shows one content to a scanner and another to the one who unpacks it.

mod entry;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use entry::{Entry, Kind, Time};
pub use reader::Reader;
pub use sparse::Segment;
pub use writer::Writer;

/// Tar is made of blocks of this many bytes.
pub const BLOCK: usize = 512;

/// Whether `head`, a file's first bytes, begins an archive: a header whose checksum is right.
pub(crate) fn is_header(head: &[u8]) -> bool {
    head.first_chunk::<BLOCK>().is_some_and(|block| block[0] != 0 && header::Header::parse(block).is_ok())
}
