//! The host's own name servers, as `resolv.conf(5)` says at the moment.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use wharf_sys::time::Instant;

/// How many servers are asked; as the C library.
pub(crate) const MOST_SERVERS: usize = 3;
/// How long a look at the file is good for.
const FRESH: Duration = Duration::from_millis(500);
/// More of the file is not read.
const MAX_FILE: u64 = 64 * 1024;
/// What systemd-resolved's stub listens on: where it is all there is, the servers behind it are used.
const STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

/// The host's name servers, read again when the file changed.
#[derive(Debug)]
pub(crate) struct HostServers {
    path: PathBuf,
    behind_stub: PathBuf,
    looked: Option<Instant>,
    seen: Vec<Option<Stamp>>,
    servers: Vec<IpAddr>,
}

/// What tells one state of a file from another: device, inode, size, time of the last change.
type Stamp = (u64, u64, u64, i64, i64);

impl HostServers {
    /// `path` is the host's `resolv.conf`.
    pub(crate) fn new(path: PathBuf) -> Self {
        let behind_stub = PathBuf::from("/run/systemd/resolve/resolv.conf");
        Self { path, behind_stub, looked: None, seen: Vec::new(), servers: Vec::new() }
    }

    /// The servers now, at most [`MOST_SERVERS`].
    pub(crate) fn servers(&mut self, now: Instant) -> &[IpAddr] {
        if self.looked.is_none_or(|looked| now.since(looked) >= FRESH) {
            self.looked = Some(now);
            // Whoever watches a directory misses what a bind mount or a link's target does.
            let seen = vec![self.stamp(&self.path), self.stamp(&self.behind_stub)];
            if seen != self.seen {
                self.seen = seen;
                self.servers = self.read();
            }
        }
        &self.servers
    }

    fn stamp(&self, path: &PathBuf) -> Option<Stamp> {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()))
    }

    fn read(&self) -> Vec<IpAddr> {
        let servers = parse(&text_of(&self.path));
        if servers == [STUB] {
            let behind = parse(&text_of(&self.behind_stub));
            if !behind.is_empty() {
                return behind;
            }
        }
        // resolv.conf(5): without any, the one on this machine is asked.
        if servers.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { servers }
    }
}

fn text_of(path: &PathBuf) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is still worth something.
        let _cut_short = file.take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The addresses of `nameserver` lines. Those with a zone are left out: a link of the host means nothing
/// in a container.
fn parse(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next())??.parse().ok()
    });
    servers.take(MOST_SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_the_c_library_reads_it() {
        let text = "# nameserver 9.9.9.9\nsearch x\n nameserver  10.0.0.1 # one\nnameserver fe80::1%eth0\n\
                    nameserver fd00::1\nnameserver\nnameservers 1.1.1.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let servers: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1", "fd00::1", "10.0.0.2"]);
    }

    #[test]
    fn changes_are_seen_whether_written_or_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let mut host = HostServers::new(path.clone());
        host.behind_stub = folder.path().join("behind");
        let mut now = Instant::now();
        let mut ask = || {
            now = now + FRESH;
            host.servers(now).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ask(), ["127.0.0.1"]);
        std::fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(ask(), ["10.0.0.1"]);
        std::fs::write(folder.path().join("new"), "nameserver 10.0.0.2\n").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(ask(), ["10.0.0.2"]);
        std::fs::write(&path, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(ask(), ["127.0.0.53"]);
        std::fs::write(folder.path().join("behind"), "nameserver 10.0.0.3\n").unwrap();
        assert_eq!(ask(), ["10.0.0.3"]);
    }
}
