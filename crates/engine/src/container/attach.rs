//! Connecting a client to a container's streams.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use wharf_shim::protocol::{Attach, Framing};
use wharf_sys::socket;

use super::logs::LogOptions;
use super::record::View;
use super::{Container, Containers, Link, Request};
use crate::error::{Error, Result};
use crate::pools::Class;

/// Ctrl-P, Ctrl-Q: how a client leaves a terminal without ending what runs there.
const DETACH_KEYS: [u8; 2] = [16, 17];

/// How long a stream waits for a client that has not read the head of the answer: some would lose what comes in one
/// piece with it.
pub(crate) const HEAD_PATIENCE: Duration = Duration::from_millis(500);

/// What a client wants of the streams.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// First what the log holds.
    pub logs: bool,
    /// Then what comes.
    pub stream: bool,
    /// As the client wrote them; `None`: the default ones.
    pub detach_keys: Option<String>,
    /// Without frames even where there is no terminal (a WebSocket).
    pub raw: bool,
}

/// A client that may be connected; all that can be refused has been.
#[derive(Debug)]
pub struct AttachTicket {
    containers: Arc<Containers>,
    container: Arc<Container>,
    attach: Attach,
    tty: bool,
}

impl Containers {
    /// Checks whether a client can be connected now.
    pub fn attach(self: &Arc<Self>, asked: &str, options: &AttachOptions) -> Result<AttachTicket> {
        let container = self.find(asked)?;
        let detach_keys = detach_keys(options.detach_keys.as_deref())?;
        let view = container.check(Request::Attach, asked)?;
        let tty = view.tty();
        let attach = wanted(options, &view, detach_keys);
        self.emit(&view.record, "attach", &[]);
        Ok(AttachTicket { containers: self.clone(), container, attach, tty })
    }

    /// Sets the size of a container's terminal, in characters.
    pub async fn resize(&self, asked: &str, height: u16, width: u16) -> Result<()> {
        let container = self.find(asked)?;
        let view = container.check(Request::Resize, asked)?;
        let gone = || Error::conflict(format!("container {} is not running", container.id()));
        let handle = container.handle().ok_or_else(gone)?;
        if view.tty() {
            let done = handle.resize(None, height, width).await;
            done.map_err(|error| Error::internal(error.to_string()))?;
        }
        let (height, width) = (height.to_string(), width.to_string());
        self.emit(&view.record, "resize", &[("height", &height), ("width", &width)]);
        Ok(())
    }
}

fn wanted(options: &AttachOptions, view: &View, detach_keys: Vec<u8>) -> Attach {
    let tty = view.tty();
    Attach {
        stdin: options.stdin && options.stream && view.record.config.open_stdin,
        stdout: options.stdout,
        // A terminal has one output.
        stderr: options.stderr && !tty,
        replay: options.logs,
        stream: options.stream,
        framing: if tty || options.raw { Framing::Raw } else { Framing::Multiplexed },
        detach_keys,
        read_ahead: Vec::new(),
    }
}

impl AttachTicket {
    /// Whether the streams are a terminal's: the bytes carry no frames.
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// Gives the client's connection away, to the supervisor in the end: at once where one is there, at the
    /// start otherwise. `read_ahead`: what was read from it beyond the request.
    pub async fn hand_over(mut self, connection: OwnedFd, read_ahead: Vec<u8>) -> Result<()> {
        self.attach.read_ahead = read_ahead;
        let container = self.container.clone();
        let handle = match &mut *container.link() {
            Link::Up(handle) => Some(handle.clone()),
            Link::Down(waiting) if self.attach.stream => {
                waiting.push((self.attach, connection));
                return Ok(());
            }
            Link::Down(_) => None,
        };
        let Some(handle) = handle else { return self.replay(connection) };
        let attached = handle.attach(self.attach, connection).await;
        attached.map_err(|error| Error::internal(format!("attach: {error}")))
    }

    /// Sends what the log of a container without supervisor holds, for as long as the client takes it.
    fn replay(self, connection: OwnedFd) -> Result<()> {
        let Attach { replay, stdout, stderr, .. } = self.attach;
        if !replay || !(stdout || stderr) {
            return Ok(());
        }
        let failed = |error: rustix::io::Errno| Error::io("attach", &error.into());
        let flags = fcntl_getfl(&connection).map_err(failed)?;
        fcntl_setfl(&connection, flags - OFlags::NONBLOCK).map_err(failed)?;
        let options = LogOptions { stdout, stderr, ..LogOptions::default() };
        tokio::spawn(async move {
            let Ok(logs) = self.containers.logs(self.container.id(), &options).await else { return };
            let send = move || {
                socket::wait_until_read(&connection, HEAD_PATIENCE);
                // A client that went away has had enough.
                let _ = std::io::copy(&mut logs.stream.into_reader(), &mut File::from(connection));
                Ok(())
            };
            let _ = self.containers.pools.run(Class::Files, send).await;
        });
        Ok(())
    }
}

/// The bytes of detach keys as clients write them: characters and `ctrl-X`, separated by commas. `None` are
/// the default ones.
pub fn detach_keys(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(DETACH_KEYS.to_vec()) };
    let refused = || Error::invalid(format!("Invalid detach keys ({text}) provided"));
    text.split(',').map(|key| key_byte(key).ok_or_else(refused)).collect()
}

fn key_byte(key: &str) -> Option<u8> {
    if let [one] = key.as_bytes() {
        return Some(*one);
    }
    let control = key.strip_prefix("ctrl-")?;
    match control.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [b'['] => Some(27),
        [b'\\'] => Some(28),
        [b']'] => Some(29),
        [b'^'] => Some(30),
        [b'_'] => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_read_as_clients_write_them() {
        assert_eq!(detach_keys(None).unwrap(), [16, 17]);
        assert_eq!(detach_keys(Some("")).unwrap(), [16, 17]);
        assert_eq!(detach_keys(Some("ctrl-a,x,ctrl-[")).unwrap(), [1, b'x', 27]);
        let error = detach_keys(Some("ctrl-ä")).unwrap_err();
        assert_eq!(error.message(), "Invalid detach keys (ctrl-ä) provided");
        assert!(detach_keys(Some("shift-a")).is_err());
    }
}
