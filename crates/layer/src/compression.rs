//! Compressions of layers: recognised by their first bytes, never by a name or a media type.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use crate::error::{Error, Result};

/// Input is decompressed from buffers of this many bytes.
const BUFFER: usize = 128 * 1024;
/// What any stream may become, bytes.
const ROOM: u64 = 1 << 30;
/// How many times its length a stream may become beyond that: a little more than gzip can at best (1,032).
const RATIO: u64 = 1_100;
/// What reading xz may take of memory, bytes: `xz -9` wants 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952), also several members in a row.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// How many first bytes [`Compression::detect`] wants to see.
    pub const MAGIC_LENGTH: usize = 6;

    /// What a stream that starts with `head` is compressed with.
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A Zstandard skippable frame may come first (0x184D2A5?).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// The plain content of `input`, whatever it is compressed with, and with what it was.
pub fn decompressor<'a>(input: impl Read + Send + 'a) -> Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut head = [0; Compression::MAGIC_LENGTH];
    let mut input = BufReader::with_capacity(BUFFER, input);
    let mut known = 0;
    while known < head.len() {
        match input.read(&mut head[known..]) {
            Ok(0) => break,
            Ok(count) => known += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Stream(error)),
        }
    }
    let compression = Compression::detect(&head[..known]);
    let taken = Arc::new(AtomicU64::new(0));
    let input = Rewound { head, at: 0, end: known, rest: input, taken: Arc::clone(&taken) };
    let reader: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => return Ok((compression, Box::new(input))),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(input).map_err(Error::Stream)?)
        }
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
            let stream = stream.map_err(|error| Error::Stream(error.into()))?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
    };
    Ok((compression, Box::new(Bounded { reader, taken, given: 0 })))
}

/// Plain content that ends with an error where it is out of all proportion to what it comes from: a bomb.
struct Bounded<R> {
    reader: R,
    /// Compressed bytes read.
    taken: Arc<AtomicU64>,
    /// Plain bytes they became.
    given: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.given += count as u64;
        if self.given > ROOM && self.given / RATIO > self.taken.load(Ordering::Relaxed) {
            let why = format!("compressed data becomes more than {ROOM} bytes and {RATIO} times its size");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(count)
    }
}

/// A stream whose first bytes were looked at.
struct Rewound<R> {
    head: [u8; Compression::MAGIC_LENGTH],
    at: usize,
    end: usize,
    rest: BufReader<R>,
    /// Bytes read of it.
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Rewound<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if self.at == self.end {
            self.rest.read(buffer)?
        } else {
            let count = buffer.len().min(self.end - self.at);
            buffer[..count].copy_from_slice(&self.head[self.at..self.at + count]);
            self.at += count;
            count
        };
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Read> BufRead for Rewound<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.end { Ok(&self.head[self.at..self.end]) } else { self.rest.fill_buf() }
    }

    fn consume(&mut self, count: usize) {
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        if self.at < self.end {
            self.at += count;
        } else {
            self.rest.consume(count);
        }
    }
}

/// Compresses what is written, at each format's usual fast level; [`Finish::finish`] ends the stream. Bzip2 and xz
/// are not written.
pub fn compressor<'a>(compression: Compression, output: impl Write + 'a) -> Result<Box<dyn Finish + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(Plain(output)),
        Compression::Gzip => Box::new(flate2::write::GzEncoder::new(output, flate2::Compression::fast())),
        Compression::Zstd => Box::new(zstd::stream::write::Encoder::new(output, 3).map_err(Error::Stream)?),
        Compression::Bzip2 => return Err(Error::Compression("bzip2")),
        Compression::Xz => return Err(Error::Compression("xz")),
    })
}

/// A writer whose stream has an end of its own.
pub trait Finish: Write {
    /// Writes the end of the stream.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

struct Plain<W>(W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Finish for Plain<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Finish for flate2::write::GzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish()?.flush()
    }
}

impl<W: Write> Finish for zstd::stream::write::Encoder<'_, W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish()?.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_compression_is_recognised_and_read_back() {
        let content = b"content ".repeat(10_000);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut packed = Vec::new();
            let mut writer = compressor(compression, &mut packed).unwrap();
            writer.write_all(&content).unwrap();
            writer.finish().unwrap();
            let (found, mut reader) = decompressor(&packed[..]).unwrap();
            assert_eq!(found, compression);
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert_eq!(back, content, "{compression}");
        }
    }

    #[test]
    fn a_bomb_is_not_followed_to_its_end() {
        let mut packed = Vec::new();
        let mut writer = compressor(Compression::Zstd, &mut packed).unwrap();
        io::copy(&mut io::repeat(0).take(ROOM + (64 << 20)), &mut writer).unwrap();
        writer.finish().unwrap();
        let (_, mut reader) = decompressor(&packed[..]).unwrap();
        let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("times its size"), "{error}");
    }

    #[test]
    fn gzip_members_in_a_row_are_one_stream() {
        let mut packed = Vec::new();
        for part in ["one", "two"] {
            let mut writer = compressor(Compression::Gzip, &mut packed).unwrap();
            writer.write_all(part.as_bytes()).unwrap();
            writer.finish().unwrap();
        }
        let mut back = String::new();
        decompressor(&packed[..]).unwrap().1.read_to_string(&mut back).unwrap();
        assert_eq!(back, "onetwo");
    }

    #[test]
    fn a_short_stream_is_plain() {
        assert_eq!(decompressor(&b"B"[..]).unwrap().0, Compression::None);
    }

    /// Packs as `xz` does with a dictionary of `dictionary` bytes.
    fn xz(content: impl Read, dictionary: u32) -> Vec<u8> {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(dictionary);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64).unwrap();
        let mut packed = Vec::new();
        let content = BufReader::new(content);
        liblzma::bufread::XzEncoder::new_stream(content, stream).read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn xz_streams_in_a_row_are_one_and_a_cut_one_is_an_error() {
        let mut packed = xz(&b"one"[..], 1 << 16);
        packed.extend(xz(&b"two"[..], 64 << 20));
        let (found, mut reader) = decompressor(&packed[..]).unwrap();
        let mut back = String::new();
        reader.read_to_string(&mut back).unwrap();
        assert_eq!((found, back.as_str()), (Compression::Xz, "onetwo"));
        drop(reader);
        packed.truncate(packed.len() - 3);
        assert!(decompressor(&packed[..]).unwrap().1.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn xz_gets_no_more_memory_than_it_may_have() {
        let greedy = xz(&b"content"[..], 256 << 20);
        let error = decompressor(&greedy[..]).unwrap().1.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    fn a_cut_gzip_stream_is_an_error() {
        let mut packed = Vec::new();
        let mut writer = compressor(Compression::Gzip, &mut packed).unwrap();
        writer.write_all(b"something to cut").unwrap();
        writer.finish().unwrap();
        packed.truncate(packed.len() - 9);
        assert!(decompressor(&packed[..]).unwrap().1.read_to_end(&mut Vec::new()).is_err());
    }
}
