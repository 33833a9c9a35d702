//! Netlink sockets (`netlink(7)`): bytes in, bytes out; what they say is the network crate's matter.
//!
//! A socket belongs to the network namespace that its maker was in, wherever it is used later.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname,
        netlink::{self, SocketAddrNetlink},
        recv, send, socket_with, sockopt,
    },
};

use crate::{
    error::{Context, Error, Result},
    process::errno,
};

/// Room for the acknowledgements of a large batch, and for a batch itself, in bytes.
const BUFFER: usize = 4 << 20;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `NETLINK_ROUTE`: links, addresses, routes, neighbours, queueing.
    Route,
    /// `NETLINK_NETFILTER`: nf_tables and connection tracking.
    Netfilter,
}

/// A bound netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
}

impl Socket {
    /// A socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// `EMFILE`; `EPROTONOSUPPORT` where the kernel lacks the family.
    pub fn open(family: Family) -> Result<Self> {
        let what = || format!("open netlink socket {family:?}");
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .context(what)?;
        bind(&fd, &SocketAddrNetlink::new(0, 0)).context(what)?;
        let socket = Self::adopt(fd)?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            socket.set_option(option, 1)?;
        }
        if family == Family::Route {
            // Lets a dump be filtered by the kernel; a dump with a field it does not know then fails.
            socket.set_option(libc::NETLINK_GET_STRICT_CHK, 1)?;
        }
        // Forcing needs CAP_NET_ADMIN here, as everything else that these sockets are for.
        for failed in
            [sockopt::set_socket_recv_buffer_size_force(&socket.fd, BUFFER), socket.send_buffer(BUFFER)]
        {
            let _smaller_batches_still_pass = failed;
        }
        Ok(socket)
    }

    /// A socket that [`Socket::open`] made, in this or another process.
    ///
    /// # Errors
    /// `ENOTSOCK`; `EAFNOSUPPORT` for a socket of another family.
    pub fn adopt(fd: OwnedFd) -> Result<Self> {
        let what = || "adopt netlink socket";
        let address = getsockname(&fd).context(what)?;
        let address = SocketAddrNetlink::try_from(address).context(what)?;
        Ok(Self { port: address.pid(), fd })
    }

    /// The kernel's number of this socket: duplicates share it.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// A second descriptor of the same socket.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn duplicate(&self) -> Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).context(|| "duplicate netlink socket")?;
        Ok(Self { fd, port: self.port })
    }

    /// Hears what a multicast group says.
    ///
    /// # Errors
    /// `EINVAL` for a group that the family does not have.
    pub fn join(&self, group: u32) -> Result<()> {
        self.set_option(libc::NETLINK_ADD_MEMBERSHIP, i32::try_from(group).unwrap_or(i32::MAX))
    }

    /// Sends whole messages. The kernel works on them before this returns.
    ///
    /// # Errors
    /// `EMSGSIZE` when they are larger than the socket's buffer.
    pub fn send(&self, messages: &[u8]) -> Result<()> {
        loop {
            match send(&self.fd, messages, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::new("send to netlink", error)),
            }
        }
    }

    /// Receives one datagram of messages, not waiting; `None`: there is none.
    ///
    /// # Errors
    /// `EMSGSIZE` for one larger than `buffer` (32 KiB hold every answer); `ENOBUFS` when the kernel had to
    /// drop messages for this socket.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        let failed = |errno| Err(Error::new("receive from netlink", errno));
        loop {
            return match recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, length)) if length > buffer.len() => failed(Errno::MSGSIZE),
                Ok((_, length)) => Ok(Some(length)),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => failed(error),
            };
        }
    }

    /// Waits until something can be received, or `timeout` has passed; whether there is something.
    ///
    /// # Errors
    /// As `poll(2)`; none for a valid socket.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut ready = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(Error::new("wait for netlink", error)),
        }
    }

    fn send_buffer(&self, size: usize) -> rustix::io::Result<()> {
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        self.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size)
    }

    fn set_option(&self, option: i32, value: i32) -> Result<()> {
        self.set(libc::SOL_NETLINK, option, value).context(|| format!("set netlink option {option}"))
    }

    fn set(&self, level: i32, option: i32, value: i32) -> rustix::io::Result<()> {
        let size = libc::socklen_t::try_from(size_of::<i32>()).map_err(|_| Errno::INVAL)?;
        // SAFETY: the pointer and size describe `value`, which outlives the call.
        let result =
            unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, (&raw const value).cast(), size) };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.fd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_share_the_port_and_the_answers() {
        let socket = Socket::open(Family::Route).unwrap();
        let other = socket.duplicate().unwrap();
        assert_eq!(socket.port(), other.port());
        // RTM_GETLINK for interface 1, with an acknowledgement: the loopback interface is everywhere.
        let mut message = vec![0_u8; 32];
        message[0] = 32;
        message[4] = 18;
        message[6] = 1;
        message[20] = 1;
        socket.send(&message).unwrap();
        let mut buffer = vec![0; 32 * 1024];
        assert!(other.wait(Duration::from_secs(5)).unwrap());
        assert!(other.receive(&mut buffer).unwrap().unwrap() > 100);
        assert!(socket.receive(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn another_socket_is_refused() {
        let (left, _right) = crate::socket::pair(crate::socket::Kind::Stream).unwrap();
        assert!(Socket::adopt(left).is_err());
    }
}
