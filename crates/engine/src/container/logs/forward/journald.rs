//! The `journald` driver: systemd's native protocol, one datagram an entry, with Docker's field names.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::{Entry, Origin};

const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
#[derive(Debug)]
pub(super) struct Journald {
    socket: UnixDatagram,
    /// The fields that all entries of a container share.
    fixed: Vec<u8>,
}

impl Journald {
    pub(super) fn connect(origin: Origin) -> io::Result<Self> {
        Self::connect_to(Path::new(SOCKET), &origin)
    }

    fn connect_to(path: &Path, origin: &Origin) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(super::BACK_OFF.1))?;
        let mut fixed = Vec::new();
        let short = &origin.id[..origin.id.len().min(12)];
        for (name, value) in [
            ("CONTAINER_ID", short),
            ("CONTAINER_ID_FULL", &origin.id),
            ("CONTAINER_NAME", &origin.name),
            ("CONTAINER_TAG", &origin.tag),
            ("IMAGE_NAME", &origin.image),
            ("SYSLOG_IDENTIFIER", &origin.tag),
        ] {
            field(name, value.as_bytes(), &mut fixed);
        }
        for (name, value) in &origin.attributes {
            field(&field_name(name), value.as_bytes(), &mut fixed);
        }
        Ok(Self { socket, fixed })
    }

    /// May sleep while the journal is busy.
    pub(super) fn send(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut message = Vec::with_capacity(self.fixed.len() + entry.text.len() + 128);
        field("MESSAGE", entry.text, &mut message);
        field("PRIORITY", if entry.stderr { b"3" } else { b"6" }, &mut message);
        field("SYSLOG_TIMESTAMP", entry.time_text.as_bytes(), &mut message);
        if entry.partial {
            field("CONTAINER_PARTIAL_MESSAGE", b"true", &mut message);
        }
        message.extend_from_slice(&self.fixed);
        self.socket.send(&message).map(drop)
    }
}

/// Appends a field; one whose value holds newlines is given with its length.
fn field(name: &str, value: &[u8], message: &mut Vec<u8>) {
    message.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        message.push(b'\n');
        message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend_from_slice(value);
    message.push(b'\n');
}

/// What the journal takes for a name: capitals, digits and underscores, no leading underscore or digit.
fn field_name(name: &str) -> String {
    let mapped: String = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' })
        .collect();
    mapped.trim_start_matches(|letter: char| !letter.is_ascii_uppercase()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_carry_dockers_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = Journald::connect_to(&path, &super::super::tests::origin()).unwrap();
        let entry = Entry { stderr: true, time: 1, time_text: "T", text: b"hi", partial: true };
        sink.send(&entry).unwrap();
        let mut buffer = [0; 1024];
        let length = journal.recv(&mut buffer).unwrap();
        let expected = "MESSAGE=hi\nPRIORITY=3\nSYSLOG_TIMESTAMP=T\nCONTAINER_PARTIAL_MESSAGE=true\n\
                        CONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL=0123456789abcdef\nCONTAINER_NAME=web\n\
                        CONTAINER_TAG=0123456789ab\nIMAGE_NAME=busybox\nSYSLOG_IDENTIFIER=0123456789ab\nA_B=c\n";
        assert_eq!(str::from_utf8(&buffer[..length]).unwrap(), expected);
    }

    #[test]
    fn newlines_need_the_length() {
        let mut message = Vec::new();
        field("MESSAGE", b"a\nb", &mut message);
        assert_eq!(message, b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
        assert_eq!(field_name("_1com.x-y"), "COM_X_Y");
    }
}
