//! Sending a directory: `FileSync/DiffCopy`. The daemon is told what there is and asks for what it lacks.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSync;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::walk::{Wanted, go, walk};

/// How many bunches of messages wait, at most.
const DEPTH: usize = 16;
/// How many entries of a list go in one bunch: who sends is woken once for all of them, and they share frames.
const BUNCH: usize = 256;
/// Content in one message, bytes.
const PIECE: usize = 256 << 10;
/// Files read at the same time.
const READERS: usize = 4;

/// The directories that a build may have, by name.
#[derive(Debug, Clone)]
pub(in super::super) struct Directories {
    by_name: Arc<BTreeMap<String, PathBuf>>,
    /// What keeps them there.
    _held: Arc<dyn Any + Send + Sync>,
}

impl Directories {
    pub(in super::super) fn new(by_name: BTreeMap<String, PathBuf>, held: impl Any + Send + Sync) -> Self {
        Self { by_name: Arc::new(by_name), _held: Arc::new(held) }
    }
}

/// Messages in bunches, one by one.
#[derive(Debug)]
pub(in super::super) struct Packets {
    receiver: mpsc::Receiver<Bunch>,
    ready: std::vec::IntoIter<Result<Packet, Status>>,
}

impl Stream for Packets {
    type Item = Result<Packet, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(packet) = self.ready.next() {
                return Poll::Ready(Some(packet));
            }
            match self.receiver.poll_recv(context) {
                Poll::Ready(Some(bunch)) => self.ready = bunch.into_iter(),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[tonic::async_trait]
impl FileSync for Directories {
    type DiffCopyStream = Packets;
    type TarStreamStream = Packets;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        let metadata = request.metadata();
        let name = list(metadata, "dir-name").into_iter().next().unwrap_or_default();
        let root = self
            .by_name
            .get(&name)
            .ok_or_else(|| Status::not_found(format!("no access allowed to dir {name:?}")))?
            .clone();
        let lists = ["include-patterns", "exclude-patterns", "followpaths"].map(|key| list(metadata, key));
        let (sender, receiver) = mpsc::channel(DEPTH);
        tokio::spawn(send(root, lists, request.into_inner(), sender));
        Ok(Response::new(Packets { receiver, ready: Vec::new().into_iter() }))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        Err(Status::unimplemented("archives of directories are not sent"))
    }
}

/// The values of a key; where they are no plain text, they are escaped as in a query.
fn list(metadata: &MetadataMap, key: &str) -> Vec<String> {
    let values = metadata.get_all(key).iter().filter_map(|value| value.to_str().ok().map(str::to_owned));
    if metadata.get(format!("{key}-encoded")).is_none_or(|value| value != "1") {
        return values.collect();
    }
    values.map(|value| unescaped(&value)).collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

type Bunch = Vec<Result<Packet, Status>>;
type Out = mpsc::Sender<Bunch>;

/// Lists the directory, then answers what is asked for until the daemon has all.
async fn send(root: PathBuf, lists: [Vec<String>; 3], mut asked: Streaming<Packet>, out: Out) {
    let files: Arc<Mutex<Vec<Option<PathBuf>>>> = Arc::default();
    let lister = {
        let (root, out, files) = (root.clone(), out.clone(), files.clone());
        tokio::task::spawn_blocking(move || list_all(&root, &lists, &out, &files))
    };
    let (work, queue) = std::sync::mpsc::channel::<u32>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..READERS {
        let (queue, out, files) = (queue.clone(), out.clone(), files.clone());
        tokio::task::spawn_blocking(move || read_all(&queue, &out, &files));
    }
    // When the daemon is gone, whoever waits for the build sees it.
    while let Ok(Some(packet)) = asked.message().await {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketReq) => {
                // Its readers live as long as it does.
                let _ = work.send(packet.id);
            }
            Ok(PacketType::PacketFin) => {
                let end = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
                let _ = out.send(vec![Ok(end)]).await;
                break;
            }
            _ => break,
        }
    }
    drop(work);
    let _ = lister.await;
}

/// Tells all that there is. The daemon may ask for a file before the list is at its end.
fn list_all(
    root: &Path,
    [include, exclude, follow]: &[Vec<String>; 3],
    out: &Out,
    files: &Mutex<Vec<Option<PathBuf>>>,
) {
    let mut bunch: Bunch = Vec::with_capacity(BUNCH);
    let listed = Wanted::new(root, include, exclude, follow).and_then(|wanted| {
        walk(root, &wanted, &mut |stat| {
            let special = go::DIRECTORY | go::SYMLINK | go::DEVICE | go::FIFO;
            let file = (stat.mode & special == 0 && stat.linkname.is_empty()).then(|| root.join(&stat.path));
            files.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            let packet =
                Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() };
            bunch.push(Ok(packet));
            bunch.len() < BUNCH
                || out.blocking_send(std::mem::replace(&mut bunch, Vec::with_capacity(BUNCH))).is_ok()
        })
    });
    let last = match listed {
        Ok(()) => Packet { r#type: PacketType::PacketStat.into(), ..Packet::default() },
        Err(why) => {
            Packet { r#type: PacketType::PacketErr.into(), data: why.into_bytes(), ..Packet::default() }
        }
    };
    bunch.push(Ok(last));
    // A daemon that is gone wants no end either.
    let _ = out.blocking_send(bunch);
}

/// Sends the files that are asked for, one after another.
fn read_all(queue: &Mutex<std::sync::mpsc::Receiver<u32>>, out: &Out, files: &Mutex<Vec<Option<PathBuf>>>) {
    loop {
        // The lock is held while waiting: the others wait their turn.
        let Ok(id) = queue.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return };
        let at = usize::try_from(id).unwrap_or(usize::MAX);
        let file = files.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned().flatten();
        let Some(path) = file else {
            let why = format!("file {id} is not in the list");
            let _ = out.blocking_send(vec![Err(Status::invalid_argument(why))]);
            return;
        };
        if let Err(error) = content(&path, id, out) {
            let why = format!("read {}: {}", path.display(), crate::error::reason(&error));
            let packet =
                Packet { r#type: PacketType::PacketErr.into(), data: why.into_bytes(), ..Packet::default() };
            let _ = out.blocking_send(vec![Ok(packet)]);
            return;
        }
    }
}

fn content(path: &Path, id: u32, out: &Out) -> std::io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    let packet = |data| Ok(Packet { r#type: PacketType::PacketData.into(), id, data, ..Packet::default() });
    loop {
        let mut data = Vec::new();
        (&mut file).take(PIECE as u64).read_to_end(&mut data)?;
        // The last piece and the end of it go together.
        let (end, empty) = (data.len() < PIECE, data.is_empty());
        let mut bunch = vec![packet(data)];
        if end && !empty {
            bunch.push(packet(Vec::new()));
        }
        if out.blocking_send(bunch).is_err() || end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_values_are_read() {
        let mut metadata = MetadataMap::new();
        metadata.append("followpaths", "gr%C3%BCn%20x".parse().unwrap());
        assert_eq!(list(&metadata, "followpaths"), ["gr%C3%BCn%20x"]);
        metadata.insert("followpaths-encoded", "1".parse().unwrap());
        assert_eq!(list(&metadata, "followpaths"), ["gr\u{fc}n x"]);
    }
}
