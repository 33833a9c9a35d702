//! Waiting for many descriptors at once (`epoll(7)`, level-triggered).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

pub use rustix::event::epoll::EventFlags;

/// A set of watched descriptors, each known by a number of the caller's choice.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// What became possible on one descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The number given at [`Epoll::add`].
    pub token: u64,
    /// What can be done now; `HUP` and `ERR` come unasked.
    pub flags: EventFlags,
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// `EMFILE` and `ENFILE` when descriptors run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches `source`.
    ///
    /// # Errors
    /// `EEXIST` when it is watched already, `EPERM` for files that are always ready.
    pub fn add(&self, source: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, source, epoll::EventData::new_u64(token), flags)?)
    }

    /// Changes what a watched descriptor is watched for.
    ///
    /// # Errors
    /// `ENOENT` when it is not watched.
    pub fn modify(&self, source: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, source, epoll::EventData::new_u64(token), flags)?)
    }

    /// Stops watching. Closing the last duplicate of a descriptor does the same, but descriptors that came
    /// from another process always have a duplicate somewhere.
    ///
    /// # Errors
    /// `ENOENT` when it is not watched.
    pub fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, source)?)
    }

    /// Waits until something is ready or `timeout` passed (`None`: for ever) and replaces `ready`'s content
    /// by at most its capacity of entries. An interrupting signal counts as nothing ready.
    ///
    /// # Errors
    /// As `epoll_wait(2)`; none for a valid set.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.map(|length| Timespec {
            tv_sec: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(length.subsec_nanos()),
        });
        let empty = epoll::Event { flags: EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [empty; 32];
        let count = match epoll::wait(&self.0, &mut events[..], timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        ready.extend(events[..count].iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready { token: data.u64(), flags }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::pipe::Pipe;

    #[test]
    fn tells_which_end_became_readable() {
        let epoll = Epoll::new().unwrap();
        let (silent, loud) = (Pipe::new().unwrap(), Pipe::new().unwrap());
        epoll.add(&silent.read, 1, EventFlags::IN).unwrap();
        epoll.add(&loud.read, 2, EventFlags::IN).unwrap();
        std::fs::File::from(loud.write).write_all(b"x").unwrap();

        let mut ready = Vec::new();
        epoll.wait(&mut ready, None).unwrap();
        assert_eq!(ready.iter().map(|one| one.token).collect::<Vec<_>>(), [2]);

        epoll.remove(&loud.read).unwrap();
        epoll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
    }
}
