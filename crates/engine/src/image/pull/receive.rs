//! One layer from the network to the disk, on threads that may sleep: hashed and written as it comes, and from the same
//! bytes decompressed, hashed again and unpacked. Nothing is read back, and nothing is held whole.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use wharf_oci::DiffId;
use wharf_store::{Batch, Store, Unpacked};

use super::transfer::Wanted;
use crate::error::{Error, Result};

/// Bytes as they came.
pub(super) type Piece = Bytes;

/// Pieces that may wait for the unpacker.
const QUEUE: usize = 8;

/// What to receive, and into what.
pub(super) struct Receipt<'a> {
    pub(super) store: &'a Arc<Store>,
    pub(super) wanted: &'a Wanted,
    /// Without what an earlier attempt left.
    pub(super) fresh: bool,
    /// Told the bytes that are here.
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
}

/// What came of it.
pub(super) struct Received {
    /// Whether it went on from what an earlier attempt left.
    pub(super) resumed: bool,
    /// Bytes of the unpacked layer; none where it was not unpacked.
    pub(super) outcome: Result<Option<u64>>,
}

/// Says at which byte to begin, takes the bytes, and puts blob and layer into the store. Bytes that end early stay for
/// the next attempt.
pub(super) fn receive(
    receipt: &Receipt<'_>,
    begin: oneshot::Sender<u64>,
    incoming: mpsc::Receiver<Piece>,
) -> Received {
    let mut resumed = false;
    let outcome = receipt.take(begin, incoming, &mut resumed);
    Received { resumed, outcome }
}

impl Receipt<'_> {
    fn take(
        &self,
        begin: oneshot::Sender<u64>,
        mut incoming: mpsc::Receiver<Piece>,
        resumed: &mut bool,
    ) -> Result<Option<u64>> {
        let Wanted { blob, diff_id } = self.wanted;
        let batch = self.store.batch()?;
        let mut writer = batch.resumable(&blob.digest, blob.size)?;
        let (queue, pieces) = sync_channel(QUEUE);
        let tree = std::thread::scope(|scope| {
            let unpacking = scope.spawn(|| unpack(&batch, *diff_id, Pieces::new(pieces)));
            let mut queue = Some(queue);
            if self.fresh {
                writer.restart()?;
            } else {
                let known = writer.replay(|piece| pass(&mut queue, piece.into()))?;
                *resumed = known > 0;
                (self.progress)(known);
            }
            // Nobody to tell means that the transfer was abandoned: then no bytes come either.
            let _ = begin.send(writer.size());
            while writer.size() < blob.size {
                let Some(piece) = incoming.blocking_recv() else {
                    return Err(Error::unavailable(format!("blob {} did not arrive whole", blob.digest)));
                };
                if let Err(error) = io::Write::write_all(&mut writer, &piece) {
                    if error.kind() == io::ErrorKind::StorageFull {
                        // Bytes that fill the disk are in the way of more than the next attempt.
                        writer.restart()?;
                    }
                    return Err(Error::io("write blob", &error));
                }
                (self.progress)(writer.size());
                pass(&mut queue, piece);
            }
            drop(queue);
            let kept = batch.keep(writer, Some(&blob.digest));
            let tree = unpacking.join().map_err(|_| Error::internal("the unpacker died"))?;
            // Wrong bytes are the reason, whatever the unpacker made of them.
            kept.map_err(|error| match error {
                wharf_store::Error::Mismatch { expected, .. } => {
                    Error::invalid(format!("filesystem layer verification failed for digest {expected}"))
                }
                other => other.into(),
            })?;
            tree
        })?;
        batch.commit(Vec::new(), Vec::new())?;
        Ok(tree)
    }
}

/// Unpacks a stream, or only verifies it where that has been done, or cannot be done before the layers below.
fn unpack(batch: &Batch, expected: DiffId, pieces: Pieces) -> Result<Option<u64>> {
    if !batch.stacks() {
        return Ok(None);
    }
    let (actual, size) = if batch.has_layer(&expected) {
        (batch.diff_id(pieces)?, None)
    } else {
        let Unpacked { diff_id, size } = batch.unpack_compressed(pieces)?;
        (diff_id, Some(size))
    };
    if actual != expected {
        return Err(Error::invalid(format!(
            "layers from manifest don't match image configuration: expected {expected}, got {actual}"
        )));
    }
    Ok(size)
}

/// Hands a piece to the unpacker. One that gave up has its reason; the blob is verified all the same.
fn pass(queue: &mut Option<SyncSender<Bytes>>, piece: Bytes) {
    if queue.as_ref().is_some_and(|queue| queue.send(piece).is_err()) {
        *queue = None;
    }
}

/// A stream that arrives in pieces from another thread.
struct Pieces {
    pieces: Receiver<Bytes>,
    piece: Bytes,
}

impl Pieces {
    fn new(pieces: Receiver<Bytes>) -> Self {
        Self { pieces, piece: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.piece = piece,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
