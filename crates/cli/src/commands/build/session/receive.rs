//! What comes out of a build, as it arrives: `FileSend/DiffCopy`, one file as a stream of bytes, or a tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::packet::file_send_server::FileSend as Tree;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend;
use hyper::HeaderMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::walk::go;

/// How many messages wait, at most.
const DEPTH: usize = 16;
/// Which of the outputs is meant.
const NUMBER: &str = "buildkit-attachable-exporter-id";

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Destination {
    File(PathBuf),
    Standard,
    Directory(PathBuf),
}

/// The destinations, by the number of the exporter.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Outputs(Arc<BTreeMap<usize, Destination>>);

impl Outputs {
    pub(in super::super) fn new(by_number: BTreeMap<usize, Destination>) -> Self {
        Self(Arc::new(by_number))
    }

    /// Whether what a call brings is a tree.
    pub(super) fn is_tree(&self, headers: &HeaderMap) -> bool {
        matches!(self.of(headers), Some(Destination::Directory(_)))
    }

    fn of(&self, headers: &HeaderMap) -> Option<&Destination> {
        let number = headers.get(NUMBER).and_then(|number| number.to_str().ok()?.parse().ok());
        match number {
            Some(number) => self.0.get(&number),
            None => self.0.values().next(),
        }
    }

    fn expected(&self, headers: &HeaderMap) -> Result<Destination, Status> {
        self.of(headers).cloned().ok_or_else(|| Status::not_found("no such output"))
    }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Status {
    Status::unknown(format!("{doing} {}: {}", path.display(), crate::error::reason(error)))
}

#[tonic::async_trait]
impl FileSend for Outputs {
    type DiffCopyStream = tokio_stream::Empty<Result<BytesMessage, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let destination = self.expected(request.metadata().as_ref())?;
        let mut pieces = request.into_inner();
        match destination {
            Destination::Standard => {
                while let Some(piece) = pieces.message().await? {
                    let mut out = io::stdout().lock();
                    out.write_all(&piece.data)
                        .map_err(|error| failed("write", Path::new("standard output"), &error))?;
                }
            }
            Destination::File(path) | Destination::Directory(path) => {
                let (mut file, partial) = beside(&path)?;
                while let Some(piece) = pieces.message().await? {
                    file.write_all(&piece.data).map_err(|error| failed("write", &partial.0, &error))?;
                }
                fs::rename(&partial.0, &path).map_err(|error| failed("rename to", &path, &error))?;
            }
        }
        Ok(Response::new(tokio_stream::empty()))
    }
}

/// A file on its way; it goes unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A file beside `path`, which only takes its name when it is whole.
fn beside(path: &Path) -> Result<(File, Partial), Status> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| failed("create", parent, &error))?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let file = File::create(&partial).map_err(|error| failed("create", &partial, &error))?;
    Ok((file, Partial(partial)))
}

#[tonic::async_trait]
impl Tree for Outputs {
    type DiffCopyStream = ReceiverStream<Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let Destination::Directory(top) = self.expected(request.metadata().as_ref())? else {
            return Err(Status::invalid_argument("the output is no directory"));
        };
        let (sender, receiver) = mpsc::channel(DEPTH);
        tokio::spawn(async move {
            if let Err(status) = take(top, request.into_inner(), &sender).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Takes a whole tree, then asks for its files one after another.
async fn take(
    top: PathBuf,
    mut packets: Streaming<Packet>,
    sender: &mpsc::Sender<Result<Packet, Status>>,
) -> Result<(), Status> {
    fs::create_dir_all(&top).map_err(|error| failed("create", &top, &error))?;
    let mut entries: Vec<Stat> = Vec::new();
    loop {
        let packet = packets.message().await?.ok_or_else(cut)?;
        match (PacketType::try_from(packet.r#type), packet.stat) {
            (Ok(PacketType::PacketStat), Some(stat)) => entries.push(stat),
            (Ok(PacketType::PacketStat), None) => break,
            (Ok(PacketType::PacketErr), _) => {
                return Err(Status::unknown(String::from_utf8_lossy(&packet.data).into_owned()));
            }
            _ => return Err(Status::invalid_argument("unexpected message")),
        }
    }
    let mut directories = BTreeSet::new();
    for (id, stat) in entries.iter().enumerate() {
        let path = place(&top, stat, &directories)?;
        if stat.mode & go::DIRECTORY != 0 {
            directories.insert(stat.path.trim_matches('/').to_owned());
        }
        if make(&top, &path, stat, &directories)? {
            let id = u32::try_from(id).map_err(|_| Status::out_of_range("too many files"))?;
            let ask = Packet { r#type: PacketType::PacketReq.into(), id, ..Packet::default() };
            sender.send(Ok(ask)).await.map_err(|_| cut())?;
            content(&path, id, &mut packets).await?;
            settle(&path, stat)?;
        }
    }
    // Directories last: what is made in them changes their times.
    for stat in entries.iter().rev().filter(|stat| stat.mode & go::DIRECTORY != 0) {
        settle(&top.join(stat.path.trim_matches('/')), stat)?;
    }
    let end = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
    sender.send(Ok(end)).await.map_err(|_| cut())?;
    while packets.message().await?.is_some_and(|packet| packet.r#type != i32::from(PacketType::PacketFin)) {}
    Ok(())
}

fn cut() -> Status {
    Status::unavailable("the daemon ended the transfer")
}

/// Where an entry goes: below a directory that came before it, so that no link leads elsewhere.
fn place(top: &Path, stat: &Stat, directories: &BTreeSet<String>) -> Result<PathBuf, Status> {
    let path = stat.path.trim_matches('/');
    let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let known = path.rsplit_once('/').is_none_or(|(parent, _)| directories.contains(parent));
    if !plain || !known {
        return Err(Status::invalid_argument(format!("invalid path {:?}", stat.path)));
    }
    Ok(top.join(path))
}

/// Makes an entry; whether its content is to be asked for.
fn make(top: &Path, path: &Path, stat: &Stat, directories: &BTreeSet<String>) -> Result<bool, Status> {
    let at = |error: io::Error| failed("create", path, &error);
    let there = fs::symlink_metadata(path).ok();
    if stat.mode & go::DIRECTORY != 0 {
        match there {
            Some(meta) if meta.is_dir() => return Ok(false),
            Some(_) => fs::remove_file(path).map_err(at)?,
            None => {}
        }
        fs::create_dir(path).map_err(at)?;
        return Ok(false);
    }
    match there {
        Some(meta) if meta.is_dir() => fs::remove_dir_all(path).map_err(at)?,
        Some(_) => fs::remove_file(path).map_err(at)?,
        None => {}
    }
    if stat.mode & go::SYMLINK != 0 {
        symlink(&stat.linkname, path).map_err(at)?;
        return Ok(false);
    }
    if stat.mode & (go::DEVICE | go::FIFO) != 0 {
        // Nodes are nothing to hand to a user.
        return Ok(false);
    }
    if !stat.linkname.is_empty() {
        let first = Stat { path: stat.linkname.clone(), ..Stat::default() };
        fs::hard_link(place(top, &first, directories)?, path).map_err(at)?;
        return Ok(false);
    }
    Ok(true)
}

async fn content(path: &Path, id: u32, packets: &mut Streaming<Packet>) -> Result<(), Status> {
    let mut file = File::create_new(path).map_err(|error| failed("create", path, &error))?;
    loop {
        let packet = packets.message().await?.ok_or_else(cut)?;
        if packet.r#type == i32::from(PacketType::PacketErr) {
            return Err(Status::unknown(String::from_utf8_lossy(&packet.data).into_owned()));
        }
        if packet.r#type != i32::from(PacketType::PacketData) || packet.id != id {
            return Err(Status::invalid_argument("unexpected message"));
        }
        if packet.data.is_empty() {
            return Ok(());
        }
        file.write_all(&packet.data).map_err(|error| failed("write", path, &error))?;
    }
}

/// Gives a file or directory its mode and time.
fn settle(path: &Path, stat: &Stat) -> Result<(), Status> {
    let bits = [(go::SETUID, 0o4000), (go::SETGID, 0o2000), (go::STICKY, 0o1000)];
    let special: u32 = bits.iter().filter(|(bit, _)| stat.mode & bit != 0).map(|(_, bit)| bit).sum();
    let mode = Permissions::from_mode((stat.mode & 0o777) | special);
    let time = UNIX_EPOCH + Duration::from_nanos(u64::try_from(stat.mod_time).unwrap_or(0));
    File::open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
        .and_then(|()| fs::set_permissions(path, mode))
        .map_err(|error| failed("set attributes of", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_elsewhere() {
        let top = Path::new("/out");
        let stat = |path: &str| Stat { path: path.to_owned(), ..Stat::default() };
        let known = BTreeSet::from(["a".to_owned()]);
        assert_eq!(place(top, &stat("a/b"), &known).unwrap(), Path::new("/out/a/b"));
        for bad in ["../x", "a/../../x", "", "link/x", "a//b"] {
            assert!(place(top, &stat(bad), &known).is_err(), "{bad}");
        }
    }
}
