//! The way from clients to a process's standard input.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// The supervisor's end of a process's standard input, with what the process did not take yet.
#[derive(Debug)]
pub(crate) struct Stdin {
    end: OwnedFd,
    waiting: Vec<u8>,
    closing: bool,
}

/// Whether the process still listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listening {
    Yes,
    No,
}

impl Stdin {
    /// `end` must not block.
    pub(crate) fn new(end: OwnedFd) -> Self {
        Self { end, waiting: Vec::new(), closing: false }
    }

    /// Whether clients may be read: nothing waits.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Passes input on, keeping what does not fit now.
    pub(crate) fn write(&mut self, input: &[u8]) -> Listening {
        if self.closing {
            return Listening::Yes;
        }
        self.waiting.extend_from_slice(input);
        self.flush()
    }

    /// Ends the input once all that waits was taken.
    pub(crate) fn close(&mut self) -> Listening {
        self.closing = true;
        self.flush()
    }

    /// Tries to pass on what waits. `No`: the process closed its end, or all was said.
    pub(crate) fn flush(&mut self) -> Listening {
        let mut written = 0;
        while written < self.waiting.len() {
            match rustix::io::write(&self.end, &self.waiting[written..]) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_closed) => return Listening::No,
            }
        }
        if written == self.waiting.len() {
            self.waiting = Vec::new();
        } else {
            self.waiting.drain(..written);
        }
        if self.closing && self.waiting.is_empty() { Listening::No } else { Listening::Yes }
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use wharf_sys::pipe::{Pipe, set_nonblocking};

    #[test]
    fn more_than_the_pipe_holds_waits_and_then_ends() {
        let pipe = Pipe::new().unwrap();
        set_nonblocking(&pipe.write).unwrap();
        let mut stdin = Stdin::new(pipe.write);
        let input = vec![7; 200_000];
        assert_eq!(stdin.write(&input), Listening::Yes);
        assert!(!stdin.has_room());
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::fs::File::from(pipe.read).read_to_end(&mut all).unwrap();
            all
        });
        while stdin.close() == Listening::Yes {
            std::thread::yield_now();
        }
        drop(stdin);
        assert_eq!(reader.join().unwrap(), input);
    }

    #[test]
    fn a_process_that_closed_its_input_is_noticed() {
        let pipe = Pipe::new().unwrap();
        drop(pipe.read);
        assert_eq!(Stdin::new(pipe.write).write(b"x"), Listening::No);
    }
}
