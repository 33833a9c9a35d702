//! Taking in an image archive as it streams by: every file becomes a blob, every layer is unpacked at once.
//!
//! An archive says only at its end (`manifest.json`) or anywhere (`index.json`) which files are layers, so that
//! they are told by their first bytes. What turns out to be no layer after all goes with the batch.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use wharf_layer::Compression;
use wharf_layer::tar::{Kind, Reader};
use wharf_oci::{DiffId, Digest};
use wharf_store::{Batch, BlobWriter, Unpacked};

use super::progress::LayerProgress;
use crate::body::ByteSender;
use crate::error::{Error, Result};

/// Members that an archive may have: far above a thousand images of a hundred layers.
const MEMBERS: usize = 200_000;
/// Pieces that may wait for the unpacker; each is what the reader had in memory, at most [`PIECE`] bytes.
const QUEUE: usize = 64;
const PIECE: usize = 128 * 1024;
/// A tar block, in which a layer shows what it is.
const HEAD: usize = 512;

/// A file of the archive, kept as a blob.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) compression: Compression,
    pub(super) tree: Tree,
}

/// What became of a member that may be a layer.
#[derive(Debug)]
pub(super) enum Tree {
    /// Not unpacked: no layer by its looks, known already, or the driver needs the layers below first.
    None,
    /// Unpacked.
    Unpacked(Unpacked),
    /// Looked like a layer and could not be unpacked; an error only if an image has it.
    Refused(Error),
}

/// All files of an archive, by path.
#[derive(Debug, Default)]
pub(super) struct Archive {
    members: HashMap<String, Member>,
    links: HashMap<String, String>,
}

impl Archive {
    /// Reads a whole archive, compressed in whatever way; progress of layers goes to `sender`.
    pub(super) fn read(batch: &Batch, input: impl Read + Send, sender: Option<&ByteSender>) -> Result<Self> {
        let (_, plain) = wharf_layer::decompressor(input).map_err(refused)?;
        let mut reader = Reader::new(BufReader::with_capacity(PIECE, plain));
        let mut archive = Self::default();
        while let Some(entry) = reader.next().map_err(refused)? {
            let path = clean("", &String::from_utf8_lossy(&entry.path));
            if archive.members.len() + archive.links.len() >= MEMBERS {
                return Err(Error::invalid("image archive has too many members"));
            }
            match entry.kind {
                Kind::File => {
                    let member = Intake { batch, sender, path: &path, size: entry.size }.take(&mut reader)?;
                    archive.members.insert(path, member);
                }
                Kind::Symlink => {
                    let target = clean(&path, &String::from_utf8_lossy(&entry.link));
                    archive.links.insert(path, target);
                }
                Kind::Link => {
                    archive.links.insert(path, clean("", &String::from_utf8_lossy(&entry.link)));
                }
                _ => {}
            }
        }
        Ok(archive)
    }

    /// The member at `path`, through at most one link, as old archives share layers.
    pub(super) fn find(&self, path: &str) -> Option<&Member> {
        let path = clean("", path);
        self.members.get(&path).or_else(|| self.members.get(self.links.get(&path)?))
    }

    /// The member in an OCI layout with this digest.
    pub(super) fn blob(&self, digest: &Digest) -> Option<&Member> {
        self.members.get(&format!("blobs/sha256/{}", digest.hex())).filter(|member| member.digest == *digest)
    }
}

/// A path without `.`, `..` and slashes at its ends, relative to the directory of `from`. Paths are only looked up in
/// a map, so that those leading outside merely find nothing.
fn clean(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// One file on its way from the archive into the store.
struct Intake<'a> {
    batch: &'a Batch,
    sender: Option<&'a ByteSender>,
    path: &'a str,
    size: u64,
}

impl Intake<'_> {
    fn take<R: BufRead>(&self, reader: &mut Reader<R>) -> Result<Member> {
        let named = self.path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
        if let Some(digest) = named
            && self.batch.blob_size(&digest) == Some(self.size)
        {
            return self.known(reader, digest);
        }
        let mut head = Vec::with_capacity(HEAD);
        reader
            .by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .map_err(|error| Error::io("read archive", &error))?;
        let compression = Compression::detect(&head);
        let layer = compression != Compression::None || head.get(257..262) == Some(b"ustar");
        let mut writer = self.batch.blob()?;
        writer.write_all(&head).map_err(|error| Error::io("write blob", &error))?;
        let known = named
            .is_some_and(|digest| compression == Compression::None && self.batch.has_layer(&DiffId(digest)));
        if !layer || known || !self.batch.stacks() {
            self.copy(reader, &mut writer, None)?;
            let (digest, size) = self.batch.keep(writer, named.as_ref())?;
            return Ok(Member { digest, size, compression, tree: Tree::None });
        }
        self.layer(reader, head, writer, compression, named)
    }

    /// A blob that the store has: what is in the archive need not even be read.
    fn known<R: BufRead>(&self, reader: &mut Reader<R>, digest: Digest) -> Result<Member> {
        let mut head = Vec::with_capacity(HEAD);
        reader
            .by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .map_err(|error| Error::io("read archive", &error))?;
        let compression = Compression::detect(&head);
        Ok(Member { digest, size: self.size, compression, tree: Tree::None })
    }

    /// A layer: hashed and written here, unpacked on another thread.
    fn layer<R: BufRead>(
        &self,
        reader: &mut Reader<R>,
        head: Vec<u8>,
        mut writer: BlobWriter,
        compression: Compression,
        named: Option<Digest>,
    ) -> Result<Member> {
        let (queue, pieces) = sync_channel(QUEUE);
        let head_size = head.len() as u64;
        // The queue is empty and its reader lives, so that this cannot fail.
        let _ = queue.send(head);
        std::thread::scope(|scope| {
            let unpacking = scope.spawn(move || match compression {
                Compression::None => self.batch.unpack_early(Pieces::new(pieces)).map(Early::Plain),
                _ => self.batch.unpack_compressed(Pieces::new(pieces)).map(Early::Known),
            });
            let mut progress = LayerProgress::new(self.sender, self.short_id(), self.size);
            progress.advance(head_size)?;
            self.copy(reader, &mut writer, Some((&queue, &mut progress)))?;
            drop(queue);
            let (digest, size) = self.batch.keep(writer, named.as_ref())?;
            let early = unpacking.join().map_err(|_| Error::internal("the unpacker died"))?;
            let tree = match early {
                Ok(Early::Plain(layer)) => Tree::Unpacked(layer.keep(DiffId(digest))?),
                Ok(Early::Known(layer)) => Tree::Unpacked(layer),
                Err(error) => Tree::Refused(error.into()),
            };
            progress.finish()?;
            Ok(Member { digest, size, compression, tree })
        })
    }

    /// Copies the rest of the member to its blob, and to the unpacker while that wants it.
    fn copy<R: BufRead>(
        &self,
        reader: &mut Reader<R>,
        writer: &mut BlobWriter,
        layer: Option<(&SyncSender<Vec<u8>>, &mut LayerProgress<'_>)>,
    ) -> Result<()> {
        let (mut queue, mut progress) = layer.unzip();
        let copied = reader.copy_to(u64::MAX, |piece| {
            writer.write_all(piece).map_err(wharf_layer::Error::Stream)?;
            // An unpacker that gave up has its reason; the blob is wanted all the same.
            queue = queue.filter(|queue| queue.send(piece.to_vec()).is_ok());
            if let Some(progress) = &mut progress {
                let told = progress.advance(piece.len() as u64);
                told.map_err(|error| wharf_layer::Error::Stream(io::Error::other(error)))?;
            }
            Ok(())
        });
        copied.map(drop).map_err(refused)
    }

    /// What progress is shown under: the beginning of the digest in the path, where there is one.
    fn short_id(&self) -> String {
        let mut parts = self.path.rsplit('/');
        let last = parts.next().unwrap_or_default();
        let id = if last == "layer.tar" { parts.next().unwrap_or(last) } else { last };
        id.chars().take(12).collect()
    }
}

enum Early<'batch> {
    Plain(wharf_store::EarlyLayer<'batch>),
    Known(Unpacked),
}

/// A stream that arrives in pieces from another thread.
struct Pieces {
    pieces: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Pieces {
    fn new(pieces: Receiver<Vec<u8>>) -> Self {
        Self { pieces, piece: Vec::new(), at: 0 }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            match self.pieces.recv() {
                Ok(piece) => (self.piece, self.at) = (piece, 0),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// An archive that cannot be read is the client's fault; a disk that is full is not.
pub(super) fn refused(error: wharf_layer::Error) -> Error {
    match error {
        wharf_layer::Error::Stream(error) if error.kind() == io::ErrorKind::StorageFull => {
            Error::io("write blob", &error)
        }
        other => Error::invalid(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_without_leaving() {
        assert_eq!(clean("", "./a//b/"), "a/b");
        assert_eq!(clean("x/layer.tar", "../y/layer.tar"), "y/layer.tar");
        assert_eq!(clean("", "../../etc/passwd"), "etc/passwd");
    }
}
