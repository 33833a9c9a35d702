//! Copies of whole trees, made as the layers themselves travel: packed on one thread, unpacked on another.

use std::io::{self, Write};
use std::path::Path;

use wharf_layer::{PackOptions, UnpackOptions, Whiteouts};
use wharf_sys::root::Root;

use crate::error::{Doing, Error, Result, at};

/// Copies the tree at `from`, with owners, links, devices and extended attributes, to the new directory `to`.
pub(super) fn tree(from: &Path, to: &Path) -> Result<()> {
    super::make_tree(to)?;
    let (reader, writer) = io::pipe().doing(|| "create pipe".to_owned())?;
    let source = open(from)?;
    let target = open(to)?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let writer = io::BufWriter::with_capacity(256 * 1024, writer);
            let mut writer = wharf_layer::pack(&source, Path::new(""), PackOptions::default(), writer)?;
            writer.flush().doing(|| "copy tree".to_owned())
        });
        let options = UnpackOptions::new(Whiteouts::Plain);
        let mut reader = reader;
        let unpacked = wharf_layer::unpack(&mut reader, &target, &options).map_err(Error::from);
        // A failed unpack must not leave the packer waiting for a reader.
        if unpacked.is_ok() {
            let _ = io::copy(&mut reader, &mut io::sink());
        }
        drop(reader);
        let packed = packing
            .join()
            .unwrap_or_else(|_| Err(Error::io("copy tree", io::Error::other("the packer died"))));
        unpacked.map(drop).and(packed)
    })
}

fn open(dir: &Path) -> Result<Root> {
    Root::open(dir).map_err(|error| Error::io(at("open", dir), io::Error::other(error.to_string())))
}
