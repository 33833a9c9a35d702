//! Unix sockets: whole messages with descriptors beside them, and names longer than the kernel's 108 bytes.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

/// How many descriptors one message may carry.
pub const MAX_DESCRIPTORS: usize = 16;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Whether a connection keeps messages apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes (`SOCK_STREAM`).
    Stream,
    /// Messages, in order (`SOCK_SEQPACKET`).
    Messages,
}

impl Kind {
    fn socket_type(self) -> SocketType {
        match self {
            Self::Stream => SocketType::STREAM,
            Self::Messages => SocketType::SEQPACKET,
        }
    }
}

/// Who is on the other side of a connection, as the kernel saw them when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// Two connected sockets; both close on exec.
///
/// # Errors
/// `EMFILE` and `ENFILE` when descriptors run out.
pub fn pair(kind: Kind) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, kind.socket_type(), SocketFlags::CLOEXEC, None)?)
}

/// Listens on `path`, replacing a socket that is there. The listener does not block.
///
/// # Errors
/// `ENOENT` when the directory is missing, `ENOTSUP` when something other than a socket has the name.
pub fn listen(path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    remove(path)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        kind.socket_type(),
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let (_directory, address) = short_address(path)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to the socket at `path`.
///
/// # Errors
/// `ENOENT` when there is none, `ECONNREFUSED` when nobody listens any more.
pub fn connect(path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, kind.socket_type(), SocketFlags::CLOEXEC, None)?;
    let (_directory, address) = short_address(path)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Removes a socket's name; nothing there is no error.
///
/// # Errors
/// `ENOTSUP` when something other than a socket has the name.
pub fn remove(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(Errno::OPNOTSUPP.into()),
    }
}

/// The next waiting connection, not blocking; `None`: nobody waits.
///
/// # Errors
/// `EMFILE` and `ENFILE` when descriptors run out.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(connection) => Ok(Some(connection)),
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Who connected (`SO_PEERCRED`).
///
/// # Errors
/// `ENOTCONN` and the like for what is no connection.
pub fn peer(connection: impl AsFd) -> io::Result<Peer> {
    let credentials = sockopt::socket_peercred(connection)?;
    Ok(Peer {
        pid: credentials.pid.as_raw_nonzero().get(),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}

/// Bytes sent on a connection that the other side has not read yet (`SIOCOUTQ`, `unix(7)`). Over TCP, those that its
/// kernel has not acknowledged (`tcp(7)`).
///
/// # Errors
/// `EINVAL` for what listens.
pub fn unread(connection: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one `int` to the live, exclusively borrowed value.
    let result = unsafe { libc::ioctl(connection.as_fd().as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) };
    match result {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until the other side has read all that was sent, for `patience` at the longest.
pub fn wait_until_read(connection: impl AsFd, patience: std::time::Duration) {
    let start = std::time::Instant::now();
    while unread(&connection).is_ok_and(|bytes| bytes > 0) && start.elapsed() < patience {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Makes room for messages of up to `bytes`, as far as the kernel's `wmem_max` allows; the default buffer
/// takes messages of about 200 KiB.
pub fn allow_messages_of(socket: impl AsFd, bytes: usize) {
    let _smaller_messages_still_pass = sockopt::set_socket_send_buffer_size(socket, bytes);
}

/// Lets [`wait_message`] fail with `EAGAIN` when no message came for that long.
///
/// # Errors
/// None known.
pub fn give_up_after(socket: impl AsFd, patience: std::time::Duration) -> io::Result<()> {
    Ok(sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(patience))?)
}

/// Sends one message with descriptors, never blocking and never raising `SIGPIPE`.
///
/// # Errors
/// `EAGAIN` when the other side has to read first, `EPIPE` when it is gone, `EMSGSIZE` when the message is
/// larger than the socket's buffer.
pub fn send_message(socket: impl AsFd, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(message)], &mut beside, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one message into `buffer`, never blocking: its length (0: the other side is gone) and the
/// descriptors that came with it, which close on exec.
///
/// # Errors
/// `EAGAIN` when there is none, `EMSGSIZE` when it does not fit.
pub fn receive_message(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    receive_with(socket, buffer, RecvFlags::DONTWAIT)
}

/// As [`receive_message`], but waits for a message.
///
/// # Errors
/// `EMSGSIZE` when it does not fit.
pub fn wait_message(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    receive_with(socket, buffer, RecvFlags::empty())
}

fn receive_with(socket: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    loop {
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(buffer)];
        let received =
            match rustix::net::recvmsg(&socket, &mut parts, &mut beside, flags | RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(Errno::MSGSIZE.into());
        }
        return Ok((received.bytes, descriptors));
    }
}

/// Sends as many bytes of `parts` as fit now, never blocking and never raising `SIGPIPE`.
///
/// # Errors
/// `EAGAIN` when none fit, `EPIPE` and `ECONNRESET` when the other side is gone.
pub fn send_parts(socket: impl AsFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match rustix::net::sendmsg(&socket, parts, &mut SendAncillaryBuffer::default(), flags) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives the bytes that are there, never blocking; 0: the other side sends no more.
///
/// # Errors
/// `EAGAIN` when there are none yet, `ECONNRESET` when the other side is gone.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::net::recv(&socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            Ok((_, length)) => return Ok(length),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells the other side that no more bytes come; what was sent still arrives.
///
/// # Errors
/// `ENOTCONN` when the other side is gone.
pub fn finish_sending(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, Shutdown::Write)?)
}

/// An address for `path` that fits into the kernel's 108 bytes: through the descriptor of its directory
/// where the path itself is too long. The descriptor must live until the address was used.
fn short_address(path: &Path) -> io::Result<(Option<OwnedFd>, SocketAddrUnix)> {
    const LONGEST: usize = 107;
    if path.as_os_str().len() <= LONGEST {
        return Ok((None, SocketAddrUnix::new(path)?));
    }
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory: OwnedFd = File::open(directory)?.into();
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((Some(directory), SocketAddrUnix::new(&short)?))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_message_carries_descriptors() {
        let (left, right) = pair(Kind::Messages).unwrap();
        let pipe = crate::pipe::Pipe::new().unwrap();
        send_message(&left, b"one", &[pipe.write.as_fd()]).unwrap();
        send_message(&left, b"two", &[]).unwrap();
        drop(pipe.write);

        let mut buffer = [0; 16];
        let (length, descriptors) = receive_message(&right, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], descriptors.len()), (&b"one"[..], 1));
        rustix::io::write(&descriptors[0], b"x").unwrap();
        drop(descriptors);
        let mut text = String::new();
        File::from(pipe.read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");

        assert_eq!(receive_message(&right, &mut buffer).unwrap().0, 3);
        assert_eq!(receive_message(&right, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(left);
        assert_eq!(receive_message(&right, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn what_is_unread_is_counted() {
        let (left, right) = pair(Kind::Stream).unwrap();
        assert_eq!(unread(&left).unwrap(), 0);
        rustix::io::write(&left, b"head").unwrap();
        assert_ne!(unread(&left).unwrap(), 0);
        wait_until_read(&left, std::time::Duration::from_millis(1));
        assert_eq!(rustix::io::read(&right, &mut [0; 8]).unwrap(), 4);
        assert_eq!(unread(&left).unwrap(), 0);
        wait_until_read(&left, std::time::Duration::MAX);
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused() {
        let (left, right) = pair(Kind::Messages).unwrap();
        send_message(&left, b"too long", &[]).unwrap();
        assert_eq!(receive_message(&right, &mut [0; 4]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    }

    #[test]
    fn a_name_longer_than_108_bytes_works() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("d".repeat(120));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("socket");
        let listener = listen(&path, Kind::Messages).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let client = connect(&path, Kind::Messages).unwrap();
        let server = accept(&listener).unwrap().unwrap();
        assert_eq!(peer(&server).unwrap().uid, rustix::process::getuid().as_raw());
        send_message(&client, b"hello", &[]).unwrap();
        assert_eq!(receive_message(&server, &mut [0; 8]).unwrap().0, 5);

        // A second listener replaces the name; a file in its place stays.
        drop(listener);
        listen(&path, Kind::Messages).unwrap();
        remove(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(listen(&path, Kind::Messages).is_err());
    }
}
