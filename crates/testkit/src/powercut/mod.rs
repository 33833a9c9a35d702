//! A disk whose power can be cut at any moment: what was written to it and when it was flushed is recorded, and any
//! moment can be played back, with a random part of what was not flushed by then.
//!
//! ```text
//! ext4 ── loop device ── a file that this process serves by FUSE ── image in a folder, and the record
//! ```

mod fuse;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};

/// Atomic unit of a disk, bytes: a write that the power cut interrupts ends at such a border.
const SECTOR: usize = 512;

/// What reached the disk, in order.
#[derive(Debug, Clone)]
enum Event {
    /// These bytes, at this place.
    Write(u64, Arc<[u8]>),
    /// Everything before is safe.
    Flush,
}

/// What happened to the disk so far.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Event>>>);

impl Record {
    /// How many writes and flushes there were: a moment that [`Disk::cut`] can go back to.
    #[must_use]
    pub fn now(&self) -> usize {
        self.lock().len()
    }

    fn push(&self, event: Event) {
        self.lock().push(event);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The recorded disk, mounted until it is dropped.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    record: Record,
    mount: Option<Mount>,
    served: Option<fuse::Served>,
}

impl Disk {
    /// A disk of `megabytes` with an empty ext4, mounted at `folder/mnt`; `folder` keeps its images.
    ///
    /// # Errors
    /// Without root, FUSE, loop devices or mkfs.ext4.
    pub fn new(folder: &Path, megabytes: u64) -> Result<Self> {
        let base = folder.join("base.img");
        File::create(&base)?.set_len(megabytes << 20)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&base))?;
        let live = folder.join("live.img");
        run(Command::new("cp").arg("--sparse=always").arg(&base).arg(&live))?;
        let record = Record::default();
        let served = fuse::serve(&folder.join("disk"), &live, record.clone())?;
        let mount = Mount::new(&folder.join("disk"), &folder.join("mnt"))?;
        Ok(Self { folder: folder.to_owned(), record, mount: Some(mount), served: Some(served) })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    /// The record, for moments.
    #[must_use]
    pub fn record(&self) -> Record {
        self.record.clone()
    }

    /// Unmounts it: what follows is playing back.
    pub fn end(&mut self) {
        drop(self.mount.take());
        drop(self.served.take());
    }

    /// The disk as it may be when the power is cut at `moment`, mounted at `folder/cut` until dropped. `seed` says which of
    /// the writes that were not flushed made it, and which of them only in part.
    ///
    /// # Errors
    /// When the image cannot be made or mounted.
    pub fn cut(&self, moment: usize, seed: u64) -> Result<Mount> {
        let image = self.folder.join("cut.img");
        // A file of its own each time: the last one may still be let go of.
        let _ = std::fs::remove_file(&image);
        run(Command::new("cp").arg("--sparse=always").arg(self.folder.join("base.img")).arg(&image))?;
        let mut file = File::options().write(true).open(&image)?;
        let events = self.record.lock();
        let past = &events[..moment.min(events.len())];
        let flushed = past.iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let mut dice = Dice(seed);
        for (at, event) in past.iter().enumerate() {
            let Event::Write(offset, bytes) = event else { continue };
            let kept = match dice.roll() {
                _ if at < flushed => bytes.len(),
                0..=3 => bytes.len(),
                4 => bytes.len() / SECTOR / 2 * SECTOR,
                _ => 0,
            };
            file.seek(SeekFrom::Start(*offset))?;
            file.write_all(&bytes[..kept])?;
        }
        drop(file);
        drop(events);
        Mount::new(&image, &self.folder.join("cut"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.end();
    }
}

/// Numbers from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    /// 0 to 7.
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 61
    }
}

/// A file system in a file, mounted until dropped.
#[derive(Debug)]
pub struct Mount {
    device: String,
    at: PathBuf,
}

impl Mount {
    fn new(file: &Path, at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let output = Command::new("losetup").args(["-f", "--show"]).arg(file).output()?;
        ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        let device = String::from_utf8(output.stdout)?.trim().to_owned();
        let mount = Self { device, at: at.to_owned() };
        run(Command::new("mount").args(["-t", "ext4"]).arg(&mount.device).arg(at))?;
        Ok(mount)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process that still ends may hold it for a moment.
        for _ in 0..100 {
            if run(Command::new("umount").arg(&self.at)).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = run(Command::new("losetup").arg("-d").arg(&self.device));
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
