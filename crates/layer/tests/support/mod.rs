//! Archives written byte by byte, as no honest writer would.
#![allow(dead_code, reason = "each test binary uses its share")]

use std::path::Path;

use wharf_layer::{Error, UnpackOptions, UnpackSummary, Whiteouts, unpack};
use wharf_sys::root::Root;

/// Builds an archive out of raw blocks.
#[derive(Default)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Raw {
    /// A ustar header with everything given.
    pub(crate) fn header(mut self, name: &str, flag: u8, size: u64, link: &str) -> Self {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000001\0");
        block[156] = flag;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.0.extend_from_slice(&checksummed(block));
        self
    }

    /// Content, filled up to whole blocks.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.header(name, b'0', data.len() as u64, "").data(data)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.header(name, b'5', 0, "")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.header(name, b'2', 0, target)
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.header(name, b'1', 0, target)
    }

    /// An extended header (`x` or `g`) with these records.
    pub(crate) fn pax(self, flag: u8, records: &[(&str, &str)]) -> Self {
        let mut body = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
            body.push_str(&format!("{length} {key}={value}\n"));
        }
        self.header("pax", flag, body.len() as u64, "").data(body.as_bytes())
    }

    /// Changes the last block and gives it a fitting checksum.
    pub(crate) fn patch(mut self, change: impl FnOnce(&mut [u8; 512])) -> Self {
        let start = self.0.len() - 512;
        let mut block: [u8; 512] = self.0[start..].try_into().unwrap();
        change(&mut block);
        self.0.truncate(start);
        self.0.extend_from_slice(&checksummed(block));
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn checksummed(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A root directory beside a file of the host that nothing may touch.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("secret"), "host").unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, inner: &str) -> std::path::PathBuf {
        self.dir.path().join("root").join(inner)
    }

    pub(crate) fn root(&self) -> Root {
        Root::open(self.path("")).unwrap()
    }

    pub(crate) fn unpack(&self, archive: &[u8], whiteouts: Whiteouts) -> Result<UnpackSummary, Error> {
        unpack(archive, &self.root(), &UnpackOptions::new(whiteouts))
    }

    /// Whether the host's file is the only thing outside the root, and as it was.
    pub(crate) fn host_untouched(&self) -> bool {
        let mut outside: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        outside.sort();
        let secret = self.dir.path().join("secret");
        outside == ["root", "secret"]
            && std::fs::read(&secret).unwrap() == b"host"
            && std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(secret).unwrap()) == 1
    }

    /// The path of the host's file as the host sees it.
    pub(crate) fn secret(&self) -> String {
        self.dir.path().join("secret").to_str().unwrap().to_owned()
    }
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}
