//! Reading the log back, and rewriting it without its history.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wharf_api::PortMap;

use super::frame::{self, HEAD, MAGIC};
use crate::error::{Error, Result};

/// What a log held.
#[derive(Debug)]
pub(crate) struct Replay {
    /// By id.
    pub(crate) containers: BTreeMap<String, Loaded>,
    /// Bytes of the file that are whole.
    pub(super) length: u64,
    /// Bytes of them that still matter.
    pub(super) live: u64,
}

/// The last word on one container: payloads, parsed when they are asked for.
#[derive(Debug)]
pub(crate) struct Loaded {
    record: Vec<u8>,
    /// `None`: it is in `record`.
    life: Option<Vec<u8>>,
    /// What changed in it since.
    ports: Vec<Vec<u8>>,
}

type Change<'a> = super::Entry<'a, (), ()>;

/// Ports that a container asks for beside those of its record, and others that it does not any more.
#[derive(Debug, Deserialize)]
pub(crate) struct PortsChanged {
    pub(crate) add: PortMap,
    pub(crate) remove: PortMap,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Record,
    Life,
    Ports,
    Removed,
}

#[derive(Deserialize)]
struct Head {
    entry: Kind,
    id: String,
}

#[derive(Deserialize)]
struct RecordOnly<R> {
    record: R,
}

#[derive(Deserialize)]
struct LifeOnly<L> {
    life: L,
}

impl Loaded {
    /// The record, and what became of it.
    pub(crate) fn read<R: DeserializeOwned, L: DeserializeOwned>(&self) -> Result<(R, L)> {
        let failed = |error| Error::internal(format!("read state log: {error}"));
        let RecordOnly { record } = serde_json::from_slice(&self.record).map_err(failed)?;
        let life = self.life.as_ref().unwrap_or(&self.record);
        let LifeOnly { life } = serde_json::from_slice(life).map_err(failed)?;
        Ok((record, life))
    }

    /// What is to be done to the record's ports, in this order.
    pub(crate) fn ports(&self) -> Result<Vec<PortsChanged>> {
        let failed = |error| Error::internal(format!("read state log: {error}"));
        self.ports.iter().map(|one| serde_json::from_slice(one).map_err(failed)).collect()
    }

    /// The frames that say it anew; the record's first.
    fn frames(&self, id: &str) -> Result<Vec<u8>> {
        let (record, life): (Value, Value) = self.read()?;
        let mut frames = frame::encode(&super::Entry::Record { id, record: &record, life: &life })?;
        for PortsChanged { add, remove } in &self.ports()? {
            frames.extend(frame::encode(&Change::Ports { id, add, remove })?);
        }
        Ok(frames)
    }
}

/// Reads the log at `path`, makes it where there is none, and cuts off what is not whole.
pub(super) fn replay(path: &Path) -> Result<Replay> {
    let failed = |error: io::Error| Error::io(format_args!("read {}", path.display()), &error);
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let mut magic = vec![0; MAGIC.len().min(usize::try_from(size).unwrap_or(usize::MAX))];
    reader.read_exact(&mut magic).map_err(failed)?;
    if !MAGIC.starts_with(&magic) {
        return Err(Error::internal(format!("read {}: not a state log of this version", path.display())));
    }
    if magic.len() < MAGIC.len() {
        begin(path).map_err(failed)?;
        return Ok(Replay { containers: BTreeMap::new(), length: MAGIC.len() as u64, live: 0 });
    }
    let mut replay = Replay { containers: BTreeMap::new(), length: MAGIC.len() as u64, live: 0 };
    while let Some(payload) = frame::read(&mut reader).map_err(failed)? {
        let Ok(head) = serde_json::from_slice(&payload) else { break };
        replay.length += (HEAD + payload.len()) as u64;
        replay.fold(head, payload);
    }
    replay.live = replay.containers.values().map(|one| (HEAD + one.record.len()) as u64).sum();
    cut(path, size, replay.length).map_err(failed)?;
    Ok(replay)
}

impl Replay {
    fn fold(&mut self, head: Head, payload: Vec<u8>) {
        match head.entry {
            Kind::Record => {
                self.containers.insert(head.id, Loaded { record: payload, life: None, ports: Vec::new() });
            }
            Kind::Life => {
                if let Some(loaded) = self.containers.get_mut(&head.id) {
                    loaded.life = Some(payload);
                }
            }
            Kind::Ports => {
                if let Some(loaded) = self.containers.get_mut(&head.id) {
                    loaded.ports.push(payload);
                }
            }
            Kind::Removed => {
                self.containers.remove(&head.id);
            }
        }
    }
}

/// Makes an empty log whose name is durable.
fn begin(path: &Path) -> io::Result<()> {
    fs::write(path, MAGIC)?;
    File::open(path)?.sync_all()?;
    sync_parent(path)
}

/// Cuts off what follows `length`; what looks like more than one torn frame is kept aside for people.
fn cut(path: &Path, size: u64, length: u64) -> io::Result<()> {
    if size == length {
        return Ok(());
    }
    tracing::warn!("state log: dropped {} bytes that were not whole", size - length);
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(length))?;
    let mut aside = File::create(path.with_extension("log.damaged"))?;
    io::copy(&mut file, &mut aside)?;
    file.set_len(length)?;
    file.sync_all()
}

/// Rewrites the log at `path` without its history. Gives the new file, open for appending, and its length.
pub(super) fn rewrite(path: &Path) -> Result<(File, u64)> {
    let failed = |error: io::Error| Error::io(format_args!("rewrite {}", path.display()), &error);
    let kept = replay(path)?;
    let fresh = path.with_extension("log.new");
    let mut out = BufWriter::with_capacity(256 << 10, File::create(&fresh).map_err(failed)?);
    let mut length = MAGIC.len() as u64;
    out.write_all(MAGIC).map_err(failed)?;
    for (id, one) in &kept.containers {
        let frames = one.frames(id)?;
        out.write_all(&frames).map_err(failed)?;
        length += frames.len() as u64;
    }
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    drop(file);
    wharf_sys::failpoint::pass("log.rewritten");
    fs::rename(&fresh, path).map_err(failed)?;
    sync_parent(path).map_err(failed)?;
    let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
    Ok((file, length))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
