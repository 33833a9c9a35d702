//! The containers' durable records: an append-only file, committed in groups.
//!
//! ```text
//! state.log   MAGIC, then frames
//! frame       length u32 LE, CRC-32 u32 LE (both of the payload), payload: one JSON document
//! payload     {"entry":"record","id":ID,…}   all there is to know of a container: made, renamed, updated
//!             {"entry":"life","id":ID,…}     its state since then: started, ended
//!             {"entry":"ports","id":ID,…}    ports that came and went since the record; there may be thousands in it
//!             {"entry":"removed","id":ID}    forget it
//! ```
//!
//! A frame cut short by a crash is cut off at the next opening: its writer was never answered. A thread of
//! its own writes and syncs, so that all appends that arrive during one sync share the next; appends that
//! nobody waits for are synced within a second. When most of the file is history, the thread rewrites it.

mod compact;
mod frame;
mod queue;
mod writer;

use std::path::Path;

use serde::Serialize;
use tokio::sync::oneshot;
use wharf_api::PortMap;

use crate::error::{Error, Result};
use crate::reserve::Reserve;

pub(crate) use compact::{PortsChanged, Replay};
pub(crate) use writer::Errands;
use writer::{Append, Until};

/// The file's name under the data root.
const FILE: &str = "state.log";

/// What becomes of a container, as the log keeps it.
#[derive(Debug, Serialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub(crate) enum Entry<'a, R, L> {
    Record { id: &'a str, record: &'a R, life: &'a L },
    Life { id: &'a str, life: &'a L },
    Ports { id: &'a str, add: &'a PortMap, remove: &'a PortMap },
    Removed { id: &'a str },
}

/// The open log; dropping it writes and syncs what is left.
#[derive(Debug)]
pub(crate) struct StateLog {
    writer: writer::Writer,
}

impl StateLog {
    /// Opens the log under `data_root` and reads what it holds.
    pub(crate) fn open(data_root: &Path) -> Result<(Self, Replay)> {
        let path = data_root.join(FILE);
        let replay = compact::replay(&path)?;
        let writer = writer::Writer::start(path, replay.length, replay.live, Reserve::of(data_root))?;
        Ok((Self { writer }, replay))
    }

    /// Appends; it reaches the disk within a second.
    pub(crate) fn append<R: Serialize, L: Serialize>(&self, entry: &Entry<'_, R, L>) {
        match frame::encode(entry) {
            Ok(frame) => self.writer.send(Append { frame, until: Until::Never }),
            Err(error) => tracing::error!("state log: {error}"),
        }
    }

    /// Appends and waits until the kernel has it: the daemon may die, the machine may not.
    pub(crate) async fn written<R: Serialize, L: Serialize>(&self, entry: &Entry<'_, R, L>) -> Result<()> {
        self.wait(entry, Until::Written).await
    }

    /// Appends and waits until the disk has it.
    pub(crate) async fn synced<R: Serialize, L: Serialize>(&self, entry: &Entry<'_, R, L>) -> Result<()> {
        self.wait(entry, Until::Synced).await
    }

    /// The log's thread, for other small writes that nobody waits for: it wakes for them and for the log at once.
    pub(crate) fn errands(&self) -> Errands {
        self.writer.errands()
    }

    /// Waits until the disk has all that was appended.
    pub(crate) async fn settled(&self) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.writer.send(Append { frame: Vec::new(), until: Until::Synced(sender) });
        receiver.await.map_err(|_| Error::internal("write state log: the log is closed"))?
    }

    async fn wait<R: Serialize, L: Serialize>(
        &self,
        entry: &Entry<'_, R, L>,
        until: fn(oneshot::Sender<Result<()>>) -> Until,
    ) -> Result<()> {
        let frame = frame::encode(entry)?;
        let (sender, receiver) = oneshot::channel();
        self.writer.send(Append { frame, until: until(sender) });
        receiver.await.map_err(|_| Error::internal("write state log: the log is closed"))?
    }

    /// How many appends waited for the disk so far.
    #[cfg(test)]
    pub(crate) fn waits(&self) -> u64 {
        self.writer.waits()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use serde_json::{Value, json};

    use super::*;

    type Any<'a> = Entry<'a, Value, Value>;

    fn record<'a>(id: &'a str, record: &'a Value, life: &'a Value) -> Any<'a> {
        Entry::Record { id, record, life }
    }

    async fn fill(root: &Path) {
        let (log, _) = StateLog::open(root).unwrap();
        let (name, created, running) = (json!({"name": "n"}), json!("created"), json!("running"));
        log.synced(&record("a", &name, &created)).await.unwrap();
        log.synced(&record("b", &name, &created)).await.unwrap();
        log.append(&Any::Life { id: "a", life: &running });
        log.written(&Any::Removed { id: "b" }).await.unwrap();
        assert_eq!(log.waits(), 2);
    }

    fn states(replay: &Replay) -> Vec<(String, Value)> {
        let life = |one: &compact::Loaded| one.read::<Value, Value>().unwrap().1;
        replay.containers.iter().map(|(id, loaded)| (id.clone(), life(loaded))).collect()
    }

    #[tokio::test]
    async fn the_last_word_on_each_container_comes_back() {
        let root = tempfile::tempdir().unwrap();
        fill(root.path()).await;
        let (_, replay) = StateLog::open(root.path()).unwrap();
        assert_eq!(states(&replay), [("a".to_owned(), json!("running"))]);
    }

    #[tokio::test]
    async fn changes_of_ports_stand_behind_their_record() {
        let root = tempfile::tempdir().unwrap();
        let (log, _) = StateLog::open(root.path()).unwrap();
        let ports = |port: &str| -> PortMap { [(port.to_owned(), None)].into() };
        let none = PortMap::new();
        let (whole, life) = (json!({"name": "n"}), json!("running"));
        for id in ["a", "b"] {
            log.synced(&record(id, &whole, &life)).await.unwrap();
            log.synced(&Any::Ports { id, add: &ports("80/tcp"), remove: &none }).await.unwrap();
            log.append(&Any::Life { id, life: &life });
            log.synced(&Any::Ports { id, add: &none, remove: &ports("81/tcp") }).await.unwrap();
        }
        // A later record says all of it.
        log.synced(&record("b", &whole, &life)).await.unwrap();
        drop(log);
        let path = root.path().join(FILE);
        for _ in 0..2 {
            let replay = compact::replay(&path).unwrap();
            let changes = replay.containers["a"].ports().unwrap();
            assert_eq!((&changes[0].add, &changes[1].remove), (&ports("80/tcp"), &ports("81/tcp")));
            assert_eq!((changes.len(), replay.containers["b"].ports().unwrap().len()), (2, 0));
            compact::rewrite(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn a_torn_tail_is_cut_off_at_every_length() {
        let root = tempfile::tempdir().unwrap();
        fill(root.path()).await;
        let path = root.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        let mut last = usize::MAX;
        for length in (0..whole.len()).rev() {
            fs::write(&path, &whole[..length]).unwrap();
            let replay = compact::replay(&path).unwrap();
            assert!(replay.length as usize <= length.max(frame::MAGIC.len()), "{length}");
            last = last.min(replay.containers.len());
        }
        assert_eq!(last, 0);
    }

    #[tokio::test]
    async fn appends_after_a_torn_tail_are_kept() {
        let root = tempfile::tempdir().unwrap();
        fill(root.path()).await;
        let path = root.path().join(FILE);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\x20\0\0\0garbage").unwrap();
        let (log, _) = StateLog::open(root.path()).unwrap();
        log.synced(&record("c", &json!(1), &json!(2))).await.unwrap();
        drop(log);
        let (_, replay) = StateLog::open(root.path()).unwrap();
        assert_eq!(states(&replay), [("a".to_owned(), json!("running")), ("c".to_owned(), json!(2))]);
    }

    #[tokio::test]
    async fn a_flipped_bit_loses_no_frame_before_it_and_keeps_the_rest_aside() {
        let root = tempfile::tempdir().unwrap();
        fill(root.path()).await;
        let path = root.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() - 20;
        bytes[middle] ^= 4;
        fs::write(&path, &bytes).unwrap();
        let (_, replay) = StateLog::open(root.path()).unwrap();
        assert_eq!(replay.containers.len(), 2);
        assert!(root.path().join("state.log.damaged").exists());
    }

    #[tokio::test]
    async fn a_foreign_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FILE), "something else entirely\n").unwrap();
        assert!(StateLog::open(root.path()).is_err());
    }

    #[tokio::test]
    async fn history_is_dropped_when_it_outweighs_the_present() {
        let root = tempfile::tempdir().unwrap();
        let (log, _) = StateLog::open(root.path()).unwrap();
        let padding = json!("x".repeat(10_000));
        for _ in 0..600 {
            log.append(&record("a", &padding, &json!(1)));
        }
        log.synced(&record("b", &json!(5), &json!(6))).await.unwrap();
        for _ in 0..600 {
            log.append(&record("a", &padding, &json!(2)));
        }
        log.synced(&Any::Life { id: "a", life: &json!(3) }).await.unwrap();
        drop(log);
        let size = fs::metadata(root.path().join(FILE)).unwrap().len();
        assert!(size < 8 << 20, "{size}");
        let (_, replay) = StateLog::open(root.path()).unwrap();
        assert_eq!(states(&replay), [("a".to_owned(), json!(3)), ("b".to_owned(), json!(6))]);
    }

    #[tokio::test]
    async fn many_waiters_share_syncs() {
        let root = tempfile::tempdir().unwrap();
        let (log, _) = StateLog::open(root.path()).unwrap();
        let log = std::sync::Arc::new(log);
        let all: Vec<_> = (0..64)
            .map(|number| {
                let log = log.clone();
                tokio::spawn(
                    async move { log.synced(&record(&number.to_string(), &json!(0), &json!(0))).await },
                )
            })
            .collect();
        for one in all {
            one.await.unwrap().unwrap();
        }
        drop(log);
        assert_eq!(StateLog::open(root.path()).unwrap().1.containers.len(), 64);
    }
}
