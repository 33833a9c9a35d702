//! What comes out of a build, sent to the client by `FileSend/DiffCopy`: one file as a stream of bytes, or a tree as the
//! client sends its own (see [`super::files`]), the roles changed.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::packet::file_send_client::FileSendClient as TreeClient;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_client::FileSendClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Status};
use wharf_engine::build::export::Part;
use wharf_engine::build::mirror::{Entry, EntryKind, list};

use super::Session;
use super::files::go;
use wharf_api::rpc::LARGEST;

/// The bytes of one message.
const PIECE: usize = 128 << 10;

/// The messages that wait to be sent.
const WAITING: usize = 16;

/// Which of a build's outputs is sent, and what the client is told of it.
#[derive(Debug, Clone, Default)]
pub(in crate::buildkit) struct Output {
    pub(in crate::buildkit) number: usize,
    pub(in crate::buildkit) about: BTreeMap<String, String>,
}

impl Output {
    fn metadata(&self) -> MetadataMap {
        let mut map = MetadataMap::new();
        map.insert("buildkit-attachable-exporter-id", MetadataValue::from(self.number));
        for (name, value) in &self.about {
            let key = MetadataKey::from_bytes(format!("exporter-md-{name}").as_bytes());
            if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(value.as_str())) {
                map.insert(key, value);
            }
        }
        map
    }
}

fn refusal(status: &Status) -> String {
    status.message().to_owned()
}

/// Bytes on their way to the client; written from a thread that may sleep.
#[derive(Debug)]
pub(in crate::buildkit) struct Writer {
    sender: mpsc::Sender<BytesMessage>,
    piece: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&data[..taken]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.sender.blocking_send(BytesMessage { data });
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client does not take the output"))
    }
}

/// Sends what `write` writes as one file.
///
/// # Errors
/// The client's, else those of `write`.
pub(in crate::buildkit) async fn file<T, E>(
    session: &Session,
    output: &Output,
    write: impl FnOnce(&mut Writer) -> Result<T, E> + Send + 'static,
) -> Result<Result<T, E>, String>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut call = Request::new(ReceiverStream::new(receiver));
    *call.metadata_mut() = output.metadata();
    let mut client = FileSendClient::new(session.caller());
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = Writer { sender, piece: Vec::with_capacity(PIECE) };
        let made = write(&mut writer)?;
        // Whether the client took it is what its answer says.
        drop(writer.flush());
        Ok(made)
    });
    let taken = async {
        let mut answer = client.diff_copy(call).await.map_err(|status| refusal(&status))?.into_inner();
        while answer.message().await.map_err(|status| refusal(&status))?.is_some() {}
        Ok::<_, String>(())
    };
    let (taken, made) = tokio::join!(taken, writing);
    taken?;
    made.map_err(|error| error.to_string())
}

/// Sends trees as one.
///
/// # Errors
/// In words for the user.
pub(in crate::buildkit) async fn tree(
    session: &Session,
    output: &Output,
    parts: Vec<Part>,
    progress: impl Fn(u64, bool),
) -> Result<(), String> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut call = Request::new(ReceiverStream::new(receiver));
    *call.metadata_mut() = output.metadata();
    let mut client = TreeClient::new(session.caller()).max_decoding_message_size(LARGEST);
    // Whoever gets a list first asks for files later: the list must be on its way before an answer comes.
    let listing = tokio::task::spawn_blocking(move || listed(parts));
    let (parts, entries) = listing.await.map_err(|error| error.to_string())??;
    let stats: Vec<Packet> = entries.iter().map(|(_, entry)| listed_packet(entry)).collect();
    let lister = sender.clone();
    let list = tokio::spawn(async move {
        for packet in stats.into_iter().chain([packet(PacketType::PacketStat)]) {
            if lister.send(packet).await.is_err() {
                return;
            }
        }
    });
    let mut answer = client.diff_copy(call).await.map_err(|status| refusal(&status))?.into_inner();
    let mut sent = 0_u64;
    let source = std::sync::Arc::new((parts, entries));
    while let Some(asked) = answer.message().await.map_err(|status| refusal(&status))? {
        match PacketType::try_from(asked.r#type) {
            Ok(PacketType::PacketReq) => {
                let (source, sender) = (source.clone(), sender.clone());
                let content = tokio::task::spawn_blocking(move || content(&source, asked.id, &sender));
                sent += content.await.map_err(|error| error.to_string())??;
                progress(sent, false);
            }
            Ok(PacketType::PacketFin) => {
                // The client closes once it has the answer.
                drop(sender.send(packet(PacketType::PacketFin)).await);
                progress(sent, true);
                break;
            }
            Ok(PacketType::PacketErr) => {
                return Err(format!("error from receiver: {}", String::from_utf8_lossy(&asked.data)));
            }
            _ => return Err("unexpected message of the client".to_owned()),
        }
    }
    drop((sender, list.await));
    while answer.message().await.map_err(|status| refusal(&status))?.is_some() {}
    Ok(())
}

type Listed = (Vec<Part>, Vec<(usize, Entry)>);

/// All entries, with the part that each is of.
fn listed(parts: Vec<Part>) -> Result<Listed, String> {
    let mut entries = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let found = list(&part.root, &part.prefix, part.latest).map_err(|error| error.to_string())?;
        entries.extend(found.into_iter().map(|entry| (at, entry)));
    }
    // Parts are whole directories, which follow one another by name; the sort keeps what is in each in order.
    if parts.len() > 1 {
        entries.sort_by(|left, right| parts[left.0].prefix.cmp(&parts[right.0].prefix));
    }
    Ok((parts, entries))
}

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

fn listed_packet(entry: &Entry) -> Packet {
    Packet { stat: Some(stat(entry)), ..packet(PacketType::PacketStat) }
}

/// An entry as the wire has it.
pub(in crate::buildkit) fn stat(entry: &Entry) -> Stat {
    let (kind, linkname, device) = match &entry.kind {
        EntryKind::File => (0, String::new(), (0, 0)),
        EntryKind::Link(target) => (0, target.clone(), (0, 0)),
        EntryKind::Directory => (go::DIRECTORY, String::new(), (0, 0)),
        EntryKind::Symlink(target) => (go::SYMLINK, target.clone(), (0, 0)),
        EntryKind::Fifo => (go::FIFO, String::new(), (0, 0)),
        EntryKind::Character(major, minor) => (go::DEVICE | go::CHARACTER, String::new(), (*major, *minor)),
        EntryKind::Block(major, minor) => (go::DEVICE, String::new(), (*major, *minor)),
    };
    let bits = [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)];
    let special: u32 = bits.iter().filter(|(bit, _)| entry.mode & bit != 0).map(|(_, bit)| bit).sum();
    Stat {
        path: entry.path.clone(),
        mode: (entry.mode & 0o777) | special | kind,
        uid: entry.uid,
        gid: entry.gid,
        size: i64::try_from(entry.size).unwrap_or(i64::MAX),
        mod_time: entry.modified,
        linkname,
        devmajor: device.0.into(),
        devminor: device.1.into(),
        xattrs: entry.attributes.iter().cloned().collect(),
    }
}

/// Sends a file's content; returns its bytes.
fn content(source: &Listed, id: u32, sender: &mpsc::Sender<Packet>) -> Result<u64, String> {
    let (parts, entries) = source;
    let asked = entries.get(id as usize).filter(|(_, entry)| entry.kind == EntryKind::File);
    let (part, entry) = asked.ok_or_else(|| "the client asks for what is no file".to_owned())?;
    let part = &parts[*part];
    let path = entry.path.strip_prefix(part.prefix.as_str()).unwrap_or(&entry.path).trim_start_matches('/');
    let mut file = part.root.open_file(path).map_err(|error| error.to_string())?;
    let (mut sent, mut buffer) = (0, vec![0; PIECE]);
    loop {
        let length = file.read(&mut buffer).map_err(|error| format!("read {}: {error}", entry.path))?;
        let piece = Packet { id, data: buffer[..length].to_vec(), ..packet(PacketType::PacketData) };
        sender.blocking_send(piece).map_err(|_| "the client does not take the output".to_owned())?;
        if length == 0 {
            return Ok(sent);
        }
        sent += length as u64;
    }
}
