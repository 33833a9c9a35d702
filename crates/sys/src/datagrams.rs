//! Datagrams by the dozen: one call receives or sends many (`recvmmsg(2)`, `sendmmsg(2)`).

use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use crate::process::errno;

/// The most datagrams of one call.
pub const MOST: usize = 32;

/// A datagram's place in a batch.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Where it begins in the batch's bytes.
    pub start: usize,
    /// Its length in bytes.
    pub length: usize,
    /// Who sent it, or is sent it.
    pub peer: SocketAddrV4,
}

/// Receives what IPv4 datagrams are there, at most as many as there are pieces of `piece` bytes in `bytes` and as
/// [`MOST`], never blocking; one that is longer than a piece is lost. `parts` says where they are.
///
/// # Errors
/// `EAGAIN` when there are none; what an earlier datagram met on its way (`ECONNREFUSED`).
pub fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    piece: usize,
    parts: &mut Vec<Part>,
) -> Result<(), Errno> {
    parts.clear();
    let mut vectors = [EMPTY; MOST];
    let mut names = [NOBODY; MOST];
    // SAFETY: all zeroes is a header without a name, parts and control data.
    let mut headers: [libc::mmsghdr; MOST] = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut count = 0;
    for (at, space) in bytes.chunks_exact_mut(piece).take(MOST).enumerate() {
        vectors[at] = libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: piece };
        headers[at].msg_hdr = header(&mut names[at], &mut vectors[at]);
        count = at + 1;
    }
    // SAFETY: the first `count` headers point into `vectors`, `names` and `bytes`, which outlive the call and are
    // borrowed by nobody else; the kernel writes no more than the lengths say.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_fd().as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| errno())?;
    for at in 0..received.min(count) {
        let whole = headers[at].msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        if whole && names[at].sin_family == libc::AF_INET as libc::sa_family_t {
            let length = headers[at].msg_len as usize;
            parts.push(Part { start: at * piece, length, peer: address(names[at]) });
        }
    }
    Ok(())
}

/// Sends datagrams from `bytes` to IPv4 addresses, never blocking. One that the kernel refuses is lost, as it might
/// have been on its way; the others are sent.
///
/// # Panics
/// Where a part is not within `bytes`.
pub fn send(socket: impl AsFd, bytes: &[u8], parts: &[Part]) {
    for some in parts.chunks(MOST) {
        let mut rest = some;
        while !rest.is_empty() {
            // The first that is refused ends a call that sent none; otherwise the next call begins with it.
            let sent = send_some(&socket, bytes, rest).unwrap_or(1).max(1);
            rest = &rest[sent.min(rest.len())..];
        }
    }
}

/// At most [`MOST`] of them; how many were sent.
fn send_some(socket: impl AsFd, bytes: &[u8], parts: &[Part]) -> Result<usize, Errno> {
    let mut vectors = [EMPTY; MOST];
    let mut names = [NOBODY; MOST];
    // SAFETY: all zeroes is a header without a name, parts and control data.
    let mut headers: [libc::mmsghdr; MOST] = unsafe { MaybeUninit::zeroed().assume_init() };
    for (at, part) in parts.iter().enumerate() {
        let text = &bytes[part.start..part.start + part.length];
        // The kernel only reads what is sent.
        vectors[at] = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
        names[at] = name(part.peer);
        headers[at].msg_hdr = header(&mut names[at], &mut vectors[at]);
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the headers of `parts` point into `vectors`, `names` and `bytes`, which outlive the call; the
        // kernel writes nothing but the headers' lengths.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                parts.len() as libc::c_uint,
                flags,
            )
        };
        match usize::try_from(sent).map_err(|_| errno()) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

const EMPTY: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
const NOBODY: libc::sockaddr_in =
    libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr: libc::in_addr { s_addr: 0 }, sin_zero: [0; 8] };

fn header(name: &mut libc::sockaddr_in, vector: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all zeroes is a header without a name, parts and control data.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = std::ptr::from_mut(name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    header
}

fn name(of: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: of.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(of.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn address(of: libc::sockaddr_in) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(of.sin_addr.s_addr.to_ne_bytes()), u16::from_be(of.sin_port))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use super::*;

    fn bound() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("not IPv4") };
        (socket, address)
    }

    #[test]
    fn many_are_received_and_answered_at_once() {
        let ((one, own), (other, peer)) = (bound(), bound());
        let (mut bytes, mut parts) = (vec![0; 8 * MOST], Vec::new());
        assert_eq!(receive(&one, &mut bytes, 8, &mut parts).unwrap_err(), Errno::AGAIN);
        for number in 0..40_u8 {
            other.send_to(&[number; 4], own).unwrap();
        }
        other.send_to(&[7; 20], own).unwrap();
        receive(&one, &mut bytes, 8, &mut parts).unwrap();
        assert_eq!(parts.len(), MOST);
        assert_eq!((parts[31].start, parts[31].length, parts[31].peer), (248, 4, peer));
        assert_eq!(&bytes[248..252], &[31; 4]);
        // Addresses that cannot be sent to do not keep the others from theirs.
        parts[0].peer.set_port(0);
        parts[9].peer.set_port(0);
        send(&one, &bytes, &parts);
        receive(&one, &mut bytes, 8, &mut parts).unwrap();
        // The last one was too long.
        assert_eq!(parts.len(), 8);
        send(&one, &bytes, &parts);
        let mut lengths = Vec::new();
        other.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        while let Ok(length) = other.recv(&mut [0; 64]) {
            lengths.push(length);
        }
        assert_eq!(lengths, [4; 38]);
    }
}
