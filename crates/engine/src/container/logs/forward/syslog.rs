//! The `syslog` driver: local or remote, in the formats that Docker offers.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};

use super::{BACK_OFF, Entry, Origin};

/// Where the local syslog daemon listens, as systems differ in it.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// The port of syslog where an address has none.
const PORT: u16 = 514;
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A connection to a syslog daemon.
#[derive(Debug)]
pub(super) struct Syslog {
    peer: Peer,
    facility: usize,
    format: Form,
    host: String,
    origin: Origin,
}

#[derive(Debug)]
enum Peer {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Tcp(TcpStream),
    Udp(UdpSocket),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// What local daemons take.
    Unix,
    Rfc3164,
    Rfc5424 {
        micros: bool,
    },
}

impl Syslog {
    pub(super) fn connect(options: &BTreeMap<String, String>, origin: Origin) -> io::Result<Self> {
        let option = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
        let format = match option("syslog-format") {
            "rfc3164" => Form::Rfc3164,
            "rfc5424" => Form::Rfc5424 { micros: false },
            "rfc5424micro" => Form::Rfc5424 { micros: true },
            _ => Form::Unix,
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let facility = facility(option("syslog-facility"));
        Ok(Self { peer: Peer::connect(option("syslog-address"))?, facility, format, host, origin })
    }

    /// May sleep while the daemon is busy.
    pub(super) fn send(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut message = self.message(entry);
        match &mut self.peer {
            Peer::Datagram(socket) => socket.send(&message).map(drop),
            Peer::Udp(socket) => socket.send(&message).map(drop),
            Peer::Stream(socket) => {
                message.push(b'\n');
                socket.write_all(&message)
            }
            Peer::Tcp(socket) => {
                message.push(b'\n');
                socket.write_all(&message)
            }
        }
    }

    fn message(&self, entry: &Entry<'_>) -> Vec<u8> {
        let priority = self.facility * 8 + if entry.stderr { 3 } else { 6 };
        let (tag, host, pid) = (&self.origin.tag, &self.host, std::process::id());
        let text = entry.time_text;
        let mut message = match self.format {
            Form::Unix => format!("<{priority}>{} {tag}[{pid}]: ", stamp(text)),
            Form::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", stamp(text)),
            Form::Rfc5424 { micros } => {
                let end = if micros { 26 } else { 19 };
                let time = text.get(..end).unwrap_or(text);
                format!("<{priority}>1 {time}Z {host} {tag} {pid} {tag} - ")
            }
        }
        .into_bytes();
        message.extend_from_slice(entry.text);
        message
    }
}

impl Peer {
    fn connect(address: &str) -> io::Result<Self> {
        if address.is_empty() {
            return Self::local();
        }
        let unsupported =
            || io::Error::new(io::ErrorKind::Unsupported, format!("address {address} is not supported"));
        let (scheme, place) = address.split_once("://").ok_or_else(unsupported)?;
        match scheme {
            "unix" | "unixgram" => Self::unix(scheme, place),
            "udp" => {
                let peer = numeric(place).ok_or_else(unsupported)?;
                let any: SocketAddr =
                    if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
                let socket = UdpSocket::bind(any)?;
                socket.connect(peer)?;
                Ok(Self::Udp(socket))
            }
            "tcp" => {
                let peer = numeric(place).ok_or_else(unsupported)?;
                let socket = TcpStream::connect_timeout(&peer, BACK_OFF.1)?;
                socket.set_write_timeout(Some(BACK_OFF.1))?;
                Ok(Self::Tcp(socket))
            }
            _ => Err(unsupported()),
        }
    }

    fn local() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in LOCAL {
            for scheme in ["unixgram", "unix"] {
                match Self::unix(scheme, path) {
                    Ok(peer) => return Ok(peer),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    fn unix(scheme: &str, path: &str) -> io::Result<Self> {
        if scheme == "unix" {
            let socket = UnixStream::connect(path)?;
            socket.set_write_timeout(Some(BACK_OFF.1))?;
            return Ok(Self::Stream(socket));
        }
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(BACK_OFF.1))?;
        Ok(Self::Datagram(socket))
    }
}

/// An address in numbers, with the standard port where it has none.
fn numeric(place: &str) -> Option<SocketAddr> {
    place.parse().ok().or_else(|| {
        let host = place.trim_start_matches('[').trim_end_matches(']');
        Some(SocketAddr::new(host.parse().ok()?, PORT))
    })
}

/// A facility by name or number; `daemon` where it is none.
fn facility(text: &str) -> usize {
    let by_name = FACILITIES.iter().position(|&name| name == text);
    let by_number = || text.parse::<usize>().ok().filter(|&number| number < FACILITIES.len());
    by_name.or_else(by_number).unwrap_or(3)
}

/// `Jan  2 15:04:05` of RFC 3339 text.
fn stamp(time: &str) -> String {
    let part = |range: std::ops::Range<usize>| time.get(range).unwrap_or_default();
    let month = part(5..7)
        .parse::<usize>()
        .ok()
        .and_then(|month| MONTHS.get(month.checked_sub(1)?))
        .unwrap_or(&"Jan");
    let day = part(8..10).parse::<u8>().unwrap_or(1);
    format!("{month} {day:>2} {}", part(11..19))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(format: &str) -> Syslog {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", socket.local_addr().unwrap());
        let options =
            [("syslog-address", address.as_str()), ("syslog-format", format), ("syslog-facility", "local0")];
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Syslog::connect(&options, super::super::tests::origin()).unwrap()
    }

    fn message(format: &str) -> String {
        let time_text = "2026-01-02T03:04:05.123456789Z";
        let entry = Entry { stderr: true, time: 0, time_text, text: b"hi", partial: false };
        String::from_utf8(sink(format).message(&entry)).unwrap()
    }

    #[test]
    fn messages_have_the_format_asked_for() {
        let (host, pid) = (sink("").host, std::process::id());
        let tag = "0123456789ab";
        assert_eq!(message(""), format!("<131>Jan  2 03:04:05 {tag}[{pid}]: hi"));
        assert_eq!(message("rfc3164"), format!("<131>Jan  2 03:04:05 {host} {tag}[{pid}]: hi"));
        assert_eq!(message("rfc5424"), format!("<131>1 2026-01-02T03:04:05Z {host} {tag} {pid} {tag} - hi"));
        let micros = message("rfc5424micro");
        assert!(micros.contains("2026-01-02T03:04:05.123456Z"), "{micros}");
    }

    #[test]
    fn addresses_and_facilities() {
        assert_eq!(numeric("127.0.0.1").unwrap().port(), PORT);
        assert_eq!(numeric("[::1]:99").unwrap().port(), 99);
        assert!(numeric("host.example:1").is_none());
        assert_eq!((facility(""), facility("local7"), facility("4"), facility("99")), (3, 23, 4, 3));
        assert!(Peer::connect("tcp+tls://127.0.0.1:1").is_err());
    }
}
