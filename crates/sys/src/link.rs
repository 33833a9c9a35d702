//! Network interfaces, as far as ioctl(2) goes (`netdevice(7)`).

use std::os::fd::AsRawFd;

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
};

use crate::{
    error::{Context, Error, Result},
    process::errno,
};

/// Sets an interface of this network namespace up.
///
/// # Errors
/// `ENODEV`, `EPERM`.
pub fn up(name: &str) -> Result<()> {
    let what = || format!("set interface {name} up");
    let socket =
        socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).context(what)?;
    // SAFETY: `ifreq` is plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Error::new(what(), Errno::NODEV));
    }
    for (target, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *target = byte.cast_signed();
    }
    // SAFETY: both calls read and write one `ifreq`, which outlives them; the flags are the union's
    // active field after SIOCGIFFLAGS.
    let result = unsafe {
        match libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) {
            0 => {
                request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
                libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)
            }
            failed => failed,
        }
    };
    if result == 0 { Ok(()) } else { Err(Error::new(what(), errno())) }
}
