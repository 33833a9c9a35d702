//! Ports and subnets of the host that no other test has, be it in another program; and who listens in a container.
//!
//! A port that the kernel gave and took back may be anybody's a moment later: that of another test, or of its client.

use std::fmt::Display;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::client::eventually;

/// Something of the host that is this test's alone until it is dropped.
#[derive(Debug)]
pub struct Claim<T> {
    what: T,
    /// An abstract address: the kernel gives it to one only, and takes it back from who died.
    _held: UnixListener,
}

impl<T: Display> Claim<T> {
    /// The first of `candidates` that nobody has claimed and that is `free`.
    fn first(mut candidates: impl Iterator<Item = T>, free: impl Fn(&T) -> bool) -> Self {
        let claim = |what: T| {
            let name = SocketAddr::from_abstract_name(format!("wharf-test {what}")).expect("a short name");
            let held = UnixListener::bind_addr(&name).ok()?;
            free(&what).then_some(Self { what, _held: held })
        };
        candidates.find_map(claim).expect("not all are taken")
    }
}

impl<T> std::ops::Deref for Claim<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

impl<T: Display> Display for Claim<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.what.fmt(f)
    }
}

/// Where a search begins, so that tests seldom look at the same candidates.
fn start() -> usize {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    std::process::id().wrapping_mul(37).wrapping_add(next) as usize
}

/// A port that nothing listens at, below those that the kernel gives to whoever does not choose.
#[must_use]
pub fn free() -> Claim<u16> {
    const FIRST: u16 = 12_000;
    const COUNT: usize = 20_000;
    let from = start();
    let candidates = (0..COUNT).map(|at| FIRST + ((from + at) % COUNT) as u16);
    let free = |port: &u16| {
        let all = [("0.0.0.0", *port), ("::", *port)];
        all.iter().all(|place| TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok())
    };
    Claim::first(candidates, free)
}

/// The first three numbers of a /24 subnet, `10.200.7`, to which this host has no way of its own.
#[must_use]
pub fn subnet() -> Claim<String> {
    const COUNT: usize = 48 * 256;
    let from = start();
    let routes = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let number = |at: usize| (from + at) % COUNT;
    let candidates = (0..COUNT).map(|at| format!("10.{}.{}", 192 + number(at) / 256, number(at) % 256));
    Claim::first(candidates, |prefix| !routes.contains(&format!(" {prefix}.")))
}

/// Waits until something listens at a TCP port in the network of a process; panics when nothing ever does.
#[track_caller]
pub fn until_listens(pid: &str, port: u16) {
    // `/proc/net/tcp`: the port in hexadecimal digits, and 0A for a socket that listens.
    let ending = format!(":{port:04X}");
    let listens = |table: &&str| {
        let rows = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        rows.lines().any(|row| {
            let words: Vec<&str> = row.split_whitespace().take(4).collect();
            matches!(words[..], [_, local, _, "0A"] if local.ends_with(&ending))
        })
    };
    let found = || ["tcp", "tcp6"].iter().any(listens).then_some(());
    assert!(eventually(Duration::from_secs(30), found).is_some(), "nothing listens at {port} in {pid}");
}
