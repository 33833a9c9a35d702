//! One file served by FUSE (linux/fuse.h, protocol 7.31): each write reaches this process before it counts as done, and
//! each fsync is seen.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{Event, Record};

/// The most that one request carries, bytes.
const MAX_WRITE: u32 = 128 << 10;
const IN_HEADER: usize = 40;
const WRITE_IN: usize = 40;

const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const FORGET: u32 = 2;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;
const EIO: i32 = 5;

/// A file being served; unmounted when dropped.
#[derive(Debug)]
pub(super) struct Served {
    at: PathBuf,
    thread: Option<JoinHandle<()>>,
}

/// Serves `image` at the path `at`, recording what is written.
pub(super) fn serve(at: &Path, image: &Path, record: Record) -> Result<Served> {
    File::create(at)?;
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").context("open /dev/fuse")?;
    let options = format!("fd={},rootmode=100000,user_id=0,group_id=0", device.as_raw_fd());
    let options = std::ffi::CString::new(options)?;
    mount("powercut", at, "fuse", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .context("mount fuse")?;
    let image = OpenOptions::new().read(true).write(true).open(image)?;
    let server = Server { device, image, record };
    let thread = std::thread::Builder::new().name("powercut".into()).spawn(move || server.run())?;
    Ok(Served { at: at.to_owned(), thread: Some(thread) })
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::DETACH);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    device: File,
    image: File,
    record: Record,
}

impl Server {
    fn run(mut self) {
        let mut request = vec![0; IN_HEADER + WRITE_IN + MAX_WRITE as usize + 4096];
        // The device fails once it is unmounted.
        while let Ok(length) = self.device.read(&mut request) {
            let (head, body) = request[..length].split_at(IN_HEADER);
            let (code, unique) = (word(head, 4), long(head, 8));
            let answer = match code {
                FORGET | BATCH_FORGET | INTERRUPT => continue,
                _ => self.answer(code, body),
            };
            if self.reply(unique, answer).is_err() || code == DESTROY {
                return;
            }
        }
    }

    fn answer(&self, code: u32, body: &[u8]) -> Result<Vec<u8>, i32> {
        match code {
            INIT => Ok(init(body)),
            GETATTR | SETATTR => self.attributes(),
            OPEN => Ok(vec![0; 16]),
            READ => {
                let mut bytes = vec![0; word(body, 16) as usize];
                let count = self.image.read_at(&mut bytes, long(body, 8)).map_err(|_| EIO)?;
                bytes.truncate(count);
                Ok(bytes)
            }
            WRITE => {
                let (offset, size) = (long(body, 8), word(body, 16));
                let bytes = &body[WRITE_IN..WRITE_IN + size as usize];
                self.image.write_all_at(bytes, offset).map_err(|_| EIO)?;
                self.record.push(Event::Write(offset, bytes.into()));
                let mut answer = size.to_ne_bytes().to_vec();
                answer.extend([0; 4]);
                Ok(answer)
            }
            FSYNC => {
                self.record.push(Event::Flush);
                Ok(Vec::new())
            }
            STATFS => Ok(vec![0; 80]),
            FLUSH | RELEASE | DESTROY => Ok(Vec::new()),
            _ => Err(ENOSYS),
        }
    }

    /// `struct fuse_attr_out`.
    fn attributes(&self) -> Result<Vec<u8>, i32> {
        let size = self.image.metadata().map_err(|_| EIO)?.len();
        let mut out = Vec::with_capacity(104);
        out.extend(3600_u64.to_ne_bytes());
        out.extend([0; 8]);
        for number in [1, size, size / 512, 0, 0, 0] {
            out.extend(u64::to_ne_bytes(number));
        }
        for number in [0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0] {
            out.extend(u32::to_ne_bytes(number));
        }
        Ok(out)
    }

    fn reply(&mut self, unique: u64, answer: Result<Vec<u8>, i32>) -> std::io::Result<()> {
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(error.to_ne_bytes());
        message.extend(unique.to_ne_bytes());
        message.extend(body);
        match self.device.write_all(&message) {
            // The request was taken back.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// `struct fuse_init_out`.
fn init(body: &[u8]) -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let mut out = Vec::with_capacity(64);
    for number in [7, 31, word(body, 8), (BIG_WRITES | MAX_PAGES) & word(body, 12)] {
        out.extend(u32::to_ne_bytes(number));
    }
    out.extend(16_u16.to_ne_bytes());
    out.extend(12_u16.to_ne_bytes());
    out.extend(MAX_WRITE.to_ne_bytes());
    out.extend(1_u32.to_ne_bytes());
    out.extend(u16::try_from(MAX_WRITE / 4096).unwrap_or(32).to_ne_bytes());
    out.resize(64, 0);
    out
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap_or_default())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap_or_default())
}
