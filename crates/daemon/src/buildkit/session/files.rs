//! A client's directory, brought over by `FileSync/DiffCopy`.
//!
//! The client lists its directory, one message a file, the end marked by one without; a file is asked for by its place in the
//! list, comes in pieces, and ends with an empty one. `FIN` goes over and comes back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::packet::file_sync_client::FileSyncClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status};
use wharf_build::solve::LocalRequest;
use wharf_engine::build::Transfer;
use wharf_engine::build::mirror::{Entry, EntryKind, Mirror, Sync};

use super::Session;
use wharf_api::rpc::LARGEST;

/// How often whoever watches is told how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// The files that are asked for and not here yet, at most; each is an open file.
const ON_THE_WAY: usize = 128;

/// Bits of Go's `FileMode`, which is what a client lists.
pub(super) mod go {
    pub(in super::super) const DIRECTORY: u32 = 1 << 31;
    pub(in super::super) const SYMLINK: u32 = 1 << 27;
    pub(in super::super) const DEVICE: u32 = 1 << 26;
    pub(in super::super) const FIFO: u32 = 1 << 25;
    pub(in super::super) const SOCKET: u32 = 1 << 24;
    pub(in super::super) const SETUID: u32 = 1 << 23;
    pub(in super::super) const SETGID: u32 = 1 << 22;
    pub(in super::super) const CHARACTER: u32 = 1 << 21;
    pub(in super::super) const STICKY: u32 = 1 << 20;
    pub(in super::super) const PERMISSIONS: u32 = 0o777;
}

/// Brings `mirror` to what the client has in a directory.
///
/// # Errors
/// In words for the user.
pub(super) async fn transfer(
    session: &Session,
    request: &LocalRequest<'_>,
    mirror: &mut Mirror,
    progress: &dyn Fn(Transfer),
) -> Result<(), String> {
    if !session.about.answers("/moby.filesync.v1.FileSync/DiffCopy") {
        return Err("no local sources enabled".to_owned());
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut call = Request::new(UnboundedReceiverStream::new(receiver));
    *call.metadata_mut() = metadata(request);
    let mut client = FileSyncClient::new(session.caller()).max_decoding_message_size(LARGEST);
    let answer = client.diff_copy(call).await.map_err(|status| refusal(&status))?;
    let mut packets = answer.into_inner();
    let mut state =
        Receiver { sync: mirror.sync(), sender, listed: 0, wanted: VecDeque::new(), asked: 0, ended: false };
    let (mut bytes, mut told) = (0_u64, Instant::now());
    progress(Transfer { bytes, done: false });
    while let Some(packet) = packets.message().await.map_err(|status| refusal(&status))? {
        bytes += prost::Message::encoded_len(&packet) as u64;
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            progress(Transfer { bytes, done: false });
        }
        match state.packet(packet)? {
            Next::More => {}
            Next::End => {
                let Receiver { sync, sender, .. } = state;
                sync.finish().map_err(|error| error.to_string())?;
                drop(sender);
                progress(Transfer { bytes, done: true });
                return Ok(());
            }
        }
    }
    Err("the client ended the transfer of its files".to_owned())
}

fn refusal(status: &Status) -> String {
    status.message().to_owned()
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    More,
    End,
}

struct Receiver<'a> {
    sync: Sync<'a>,
    sender: mpsc::UnboundedSender<Packet>,
    /// Entries so far.
    listed: u32,
    /// Files that are still to be asked for.
    wanted: VecDeque<u32>,
    /// Files that are on their way.
    asked: usize,
    /// The list is at its end.
    ended: bool,
}

impl Receiver<'_> {
    fn packet(&mut self, packet: Packet) -> Result<Next, String> {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketStat) if self.ended => {
                Err("the client lists files behind the end".to_owned())?
            }
            Ok(PacketType::PacketStat) => match packet.stat {
                Some(stat) => self.stat(stat)?,
                None => {
                    self.ended = true;
                    self.ask()?;
                }
            },
            Ok(PacketType::PacketData) => self.data(packet.id, &packet.data)?,
            Ok(PacketType::PacketFin) => return Ok(Next::End),
            Ok(PacketType::PacketErr) => {
                return Err(format!("error from sender: {}", String::from_utf8_lossy(&packet.data)));
            }
            Ok(PacketType::PacketReq) | Err(_) => return Err("unexpected message of the client".to_owned()),
        }
        Ok(Next::More)
    }

    fn stat(&mut self, stat: Stat) -> Result<(), String> {
        let at = self.listed;
        self.listed += 1;
        let entry = entry(stat)?;
        if self.sync.entry(entry).map_err(|error| error.to_string())? {
            self.wanted.push_back(at);
            self.ask()?;
        }
        Ok(())
    }

    fn data(&mut self, id: u32, data: &[u8]) -> Result<(), String> {
        self.sync.content(id, data).map_err(|error| error.to_string())?;
        if data.is_empty() {
            self.asked = self.asked.saturating_sub(1);
            self.ask()?;
        }
        Ok(())
    }

    /// Asks for as many files as may be on their way; ends the transfer when all is here.
    fn ask(&mut self) -> Result<(), String> {
        while self.asked < ON_THE_WAY
            && let Some(id) = self.wanted.pop_front()
        {
            self.asked += 1;
            self.send(Packet { r#type: PacketType::PacketReq.into(), id, ..Packet::default() })?;
        }
        if self.ended && self.asked == 0 {
            self.send(Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() })?;
        }
        Ok(())
    }

    fn send(&self, packet: Packet) -> Result<(), String> {
        self.sender.send(packet).map_err(|_| "the client is gone".to_owned())
    }
}

/// A file as it is listed.
fn entry(stat: Stat) -> Result<Entry, String> {
    let device = || {
        let number =
            |value: i64| u32::try_from(value).map_err(|_| format!("invalid device number of {}", stat.path));
        Ok::<_, String>((number(stat.devmajor)?, number(stat.devminor)?))
    };
    let mode = stat.mode;
    let is = |bit: u32| mode & bit != 0;
    let kind = if is(go::DIRECTORY) {
        EntryKind::Directory
    } else if is(go::SYMLINK) {
        EntryKind::Symlink(stat.linkname.clone())
    } else if is(go::DEVICE) {
        let (major, minor) = device()?;
        if is(go::CHARACTER) { EntryKind::Character(major, minor) } else { EntryKind::Block(major, minor) }
    } else if is(go::FIFO) {
        EntryKind::Fifo
    } else if is(go::SOCKET) {
        return Err(format!("{} is a socket", stat.path));
    } else if stat.linkname.is_empty() {
        EntryKind::File
    } else {
        EntryKind::Link(stat.linkname.clone())
    };
    let bits = [(go::SETUID, 0o4000), (go::SETGID, 0o2000), (go::STICKY, 0o1000)];
    let special: u32 = bits.iter().filter(|(bit, _)| is(*bit)).map(|(_, bit)| bit).sum();
    let mut attributes: Vec<_> = stat.xattrs.into_iter().collect();
    attributes.sort();
    Ok(Entry {
        size: if kind == EntryKind::File { u64::try_from(stat.size).unwrap_or(0) } else { 0 },
        path: stat.path,
        kind,
        mode: (mode & go::PERMISSIONS) | special,
        uid: stat.uid,
        gid: stat.gid,
        modified: stat.mod_time,
        attributes,
        content: None,
    })
}

/// What of which directory is wanted.
fn metadata(request: &LocalRequest<'_>) -> MetadataMap {
    let mut map = MetadataMap::new();
    let name = [request.name.to_owned()];
    let lists: [(&'static str, &[String]); 4] = [
        ("include-patterns", request.include),
        ("exclude-patterns", request.exclude),
        ("followpaths", request.follow),
        ("dir-name", &name),
    ];
    for (key, values) in lists {
        let encoded = values.iter().any(|value| !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        for value in values {
            let value = if encoded { escape(value) } else { value.clone() };
            // Printable ASCII alone is left.
            if let Ok(value) = MetadataValue::try_from(value) {
                map.append(key, value);
            }
        }
        if encoded {
            let key = format!("{key}-encoded");
            if let Ok(key) = tonic::metadata::MetadataKey::from_bytes(key.as_bytes()) {
                map.insert(key, MetadataValue::from_static("1"));
            }
        }
    }
    map
}

/// As in a query: all but letters, digits and `-_.~` as hex.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte))
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_modes_become_kinds() {
        let of = |mode: u32, linkname: &str| {
            entry(Stat {
                path: "p".to_owned(),
                mode,
                linkname: linkname.to_owned(),
                size: 3,
                ..Stat::default()
            })
        };
        let directory = of(go::DIRECTORY | go::STICKY | 0o755, "").unwrap();
        assert_eq!((directory.kind, directory.mode, directory.size), (EntryKind::Directory, 0o1755, 0));
        assert_eq!(of(go::SETUID | 0o755, "").unwrap().mode, 0o4755);
        assert_eq!(of(0o644, "x").unwrap().kind, EntryKind::Link("x".to_owned()));
        assert_eq!(of(go::SYMLINK | 0o777, "x").unwrap().kind, EntryKind::Symlink("x".to_owned()));
        assert!(of(go::SOCKET, "").is_err());
    }

    #[test]
    fn names_that_are_no_headers_are_escaped() {
        let follow = ["gr\u{fc}n x".to_owned(), "a".to_owned()];
        let request = LocalRequest { name: "context", include: &[], exclude: &[], follow: &follow };
        let map = metadata(&request);
        let values: Vec<_> = map.get_all("followpaths").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["gr%C3%BCn%20x", "a"]);
        assert_eq!(map.get("followpaths-encoded").unwrap(), "1");
        assert_eq!(map.get("dir-name").unwrap(), "context");
        assert!(map.get("dir-name-encoded").is_none());
    }
}
