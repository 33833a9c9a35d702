//! Transfers of layers, each shared by all pulls that want it.
//!
//! A transfer runs while anybody watches it. When the last one leaves, it is cut: what has arrived stays in the store
//! for the next attempt. One that comes while it winds down waits for that, then starts another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};
use wharf_distribution::client::{BlobEvent, Repository};
use wharf_oci::{Descriptor, DiffId, Digest};
use wharf_store::Store;

use super::POOL;
use super::receive::{Piece, Receipt, Received, receive};
use crate::error::{Error, ErrorKind, Result};
use crate::pools::Pools;
use crate::registry::Registries;

/// Pieces on their way from the network to the disk.
const DEPTH: usize = 8;

/// What a transfer brings.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) blob: Descriptor,
    pub(super) diff_id: DiffId,
}

/// How far a transfer is, in the order in which it goes through them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// For a turn.
    Waiting,
    Downloading,
    /// The transfer broke; another attempt follows after so many seconds.
    Retrying(u64),
    /// All bytes are here.
    Extracting,
    /// It ended: bytes of the unpacked layer, none where it was not unpacked.
    Ended(Result<Option<u64>>),
}

/// What its watchers see.
#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    /// Bytes that have arrived.
    current: AtomicU64,
    watchers: AtomicUsize,
    abandoned: Notify,
}

type Key = (Digest, DiffId);

/// All transfers under way.
#[derive(Debug, Default)]
pub(in crate::image) struct Transfers {
    under_way: Mutex<HashMap<Key, Arc<Shared>>>,
}

/// A watcher's hold on a transfer.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
}

/// What a transfer works with.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) store: Arc<Store>,
    pub(super) pools: Pools,
    pub(super) registries: Arc<Registries>,
    pub(super) repository: Repository,
}

impl Transfers {
    /// Watches the transfer of `wanted`, starting it if there is none.
    pub(super) async fn watch(self: &Arc<Self>, wanted: &Wanted, means: &Means) -> Watch {
        loop {
            let ending = match self.join(wanted, means) {
                Ok(watch) => return watch,
                Err(ending) => ending,
            };
            let mut phase = ending.phase.subscribe();
            // The sender lives in `ending`.
            let _ = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
            drop(ending);
            tokio::task::yield_now().await;
        }
    }

    /// A watch, or the abandoned transfer that is in the way.
    fn join(self: &Arc<Self>, wanted: &Wanted, means: &Means) -> Result<Watch, Arc<Shared>> {
        let key = (wanted.blob.digest, wanted.diff_id);
        let mut under_way = self.lock();
        if let Some(shared) = under_way.get(&key) {
            // Nobody may come once the last one has left.
            let one_more = |watchers| (watchers > 0).then_some(watchers + 1);
            return match shared.watchers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
                Ok(_) => Ok(Watch { shared: Arc::clone(shared), phase: shared.phase.subscribe() }),
                Err(_) => Err(Arc::clone(shared)),
            };
        }
        let (phase, receiver) = watch::channel(Phase::Downloading);
        let shared = Arc::new(Shared {
            phase,
            current: AtomicU64::new(0),
            watchers: AtomicUsize::new(1),
            abandoned: Notify::new(),
        });
        under_way.insert(key, Arc::clone(&shared));
        let transfer = Transfer { shared: Arc::clone(&shared), wanted: wanted.clone(), means: means.clone() };
        let transfers = Arc::clone(self);
        tokio::spawn(async move {
            let ended = transfer.run().await;
            if ended.is_err() || transfer.shared.watchers.load(Ordering::Relaxed) == 0 {
                transfer.tidy().await;
            }
            transfers.lock().remove(&key);
            transfer.shared.phase.send_replace(Phase::Ended(ended));
        });
        Ok(Watch { shared, phase: receiver })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Shared>>> {
        // Only plain inserts and removes happen under the lock: a panic elsewhere leaves it whole.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// How far it is now.
    pub(super) fn phase(&mut self) -> Phase {
        self.phase.borrow_and_update().clone()
    }

    /// Bytes that have arrived.
    pub(super) fn current(&self) -> u64 {
        self.shared.current.load(Ordering::Relaxed)
    }

    /// Waits for another phase.
    pub(super) async fn changed(&mut self) {
        // The sender lives in `shared`.
        let _ = self.phase.changed().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.shared.watchers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.shared.abandoned.notify_one();
        }
    }
}

struct Transfer {
    shared: Arc<Shared>,
    wanted: Wanted,
    means: Means,
}

impl Transfer {
    async fn run(&self) -> Result<Option<u64>> {
        let _turn = match self.means.registries.download_now() {
            Some(turn) => turn,
            None => {
                self.proceed(&Phase::Waiting);
                tokio::select! {
                    turn = self.means.registries.download() => turn?,
                    () = self.shared.abandoned.notified() => return Err(abandoned()),
                }
            }
        };
        self.proceed(&Phase::Downloading);
        match self.attempt(false).await {
            // What an earlier attempt left was not what it should be: once more, from the first byte.
            Err(Broken { resumed: true, error }) if error.kind() == ErrorKind::Invalid => {
                tracing::warn!("{}: {error}; fetching it again", self.wanted.blob.digest);
                self.attempt(true).await.map_err(|broken| broken.error)
            }
            other => other.map_err(|broken| broken.error),
        }
    }

    /// What arrived, whole or in part, is kept only while a lease names it: a pull that was refused ends its lease while
    /// the transfers of its other layers wind down.
    async fn tidy(&self) {
        let store = Arc::clone(&self.means.store);
        let tidied = self.means.pools.run(POOL, move || {
            store.sweep_partials()?;
            Ok(store.collect()?)
        });
        if let Err(error) = tidied.await {
            tracing::warn!("free what a transfer left: {error}");
        }
    }

    /// Feeds what comes from the network to a thread that may sleep.
    async fn attempt(&self, fresh: bool) -> Result<Option<u64>, Broken> {
        self.shared.current.store(0, Ordering::Relaxed);
        let (pieces, incoming) = mpsc::channel(DEPTH);
        let (offset, begin) = tokio::sync::oneshot::channel();
        let (store, wanted, shared) =
            (Arc::clone(&self.means.store), self.wanted.clone(), Arc::clone(&self.shared));
        let pools = self.means.pools.clone();
        let receiving = tokio::spawn(async move {
            let work = move || {
                let progress = |bytes| shared.current.store(bytes, Ordering::Relaxed);
                let receipt = Receipt { store: &store, wanted: &wanted, fresh, progress: &progress };
                Ok(receive(&receipt, offset, incoming))
            };
            pools.run(POOL, work).await
        });
        let fed = tokio::select! {
            fed = self.feed(begin, pieces) => fed,
            () = self.shared.abandoned.notified() => Err(abandoned()),
        };
        let received = receiving.await.map_err(|error| Error::internal(format!("worker: {error}")));
        let received = match received {
            Ok(Ok(received)) => received,
            Ok(Err(error)) | Err(error) => return Err(Broken { resumed: false, error }),
        };
        let Received { resumed, outcome } = received;
        match (fed, outcome) {
            // The receiver only saw that the bytes ended; why, the network knows.
            (Err(error), Err(_)) => Err(Broken { resumed: false, error }),
            (_, Ok(size)) => Ok(size),
            (Ok(()), Err(error)) => Err(Broken { resumed, error }),
        }
    }

    async fn feed(
        &self,
        begin: tokio::sync::oneshot::Receiver<u64>,
        pieces: mpsc::Sender<Piece>,
    ) -> Result<()> {
        // A receiver that failed before it could say where to begin has an error of its own.
        let Ok(offset) = begin.await else { return Ok(()) };
        let mut stream = self.means.repository.blob(&self.wanted.blob, offset);
        while let Some(event) = stream.next().await? {
            match event {
                BlobEvent::Bytes(bytes) => {
                    self.proceed(&Phase::Downloading);
                    if pieces.send(bytes).await.is_err() {
                        return Ok(());
                    }
                }
                BlobEvent::Retrying { pause, reason, .. } => {
                    tracing::info!("{}: {reason}; another attempt follows", self.wanted.blob.digest);
                    self.proceed(&Phase::Retrying(pause.as_secs().max(1)));
                }
            }
        }
        self.proceed(&Phase::Extracting);
        Ok(())
    }

    fn proceed(&self, to: &Phase) {
        self.shared.phase.send_if_modified(|phase| {
            let changed = phase != to;
            if changed {
                phase.clone_from(to);
            }
            changed
        });
    }
}

/// A failed attempt, and whether it went on from an earlier one.
struct Broken {
    resumed: bool,
    error: Error,
}

fn abandoned() -> Error {
    Error::unavailable("nobody waits for this transfer any more")
}
