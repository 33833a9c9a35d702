//! The report over HTTP, a connection at a time.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::report::report;
use crate::error::{CliError, print};

const PORT: u16 = 8080;
/// A client that says nothing for this long is hung up on.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most a request's head may take.
const LONGEST_HEAD: u64 = 16 * 1024;

/// Answers until killed.
pub(super) fn serve() -> Result<(), CliError> {
    let both: SocketAddr = (Ipv6Addr::UNSPECIFIED, PORT).into();
    let only: SocketAddr = (Ipv4Addr::UNSPECIFIED, PORT).into();
    let listener = TcpListener::bind(both).or_else(|_| TcpListener::bind(only))?;
    print(&format!("listening on port {PORT}"))?;
    for stream in listener.incoming().flatten() {
        // One client's trouble is not the next one's.
        let _ = answer(stream);
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = BufReader::new(std::io::Read::take(stream.try_clone()?, LONGEST_HEAD));
    for line in head.lines() {
        if line?.is_empty() {
            break;
        }
    }
    let body = report();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
