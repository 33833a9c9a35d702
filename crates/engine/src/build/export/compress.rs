//! How layers go out: plain, or compressed the same way each time, on whatever machine.

use std::io::{self, BufReader, Read, Write};

use flate2::write::GzEncoder;
use wharf_layer::{Compression, compressor, decompressor};
use wharf_oci::Descriptor;
use wharf_oci::image::media_type;
use wharf_store::{Batch, ImageLayer};

use super::options::Attributes;
use crate::error::{Error, Result};

/// Read from the disk at once, bytes.
const READ: usize = 256 << 10;
/// How hard to compress where nobody says: above this, much time buys little.
const LEVEL: u32 = 4;
/// Layers compressed at a time.
const PARALLEL: usize = 4;

/// A form of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Plain,
    /// gzip, with its level.
    Gzip(u32),
    /// zstd.
    Zstd,
}

impl Default for Packing {
    fn default() -> Self {
        Self::Gzip(LEVEL)
    }
}

impl Packing {
    /// What `compression` and `compression-level` ask for.
    pub(super) fn parse(attributes: &Attributes) -> Result<Option<Self>> {
        let level = attributes.get("compression-level").map(|text| {
            text.parse::<u32>().map_err(|_| {
                Error::invalid(format!("non-int value specified for compression-level: {text:?}"))
            })
        });
        let level = level.transpose()?;
        Ok(match attributes.get("compression").map(String::as_str) {
            None => level.map(|level| Self::Gzip(level.min(9))),
            Some("uncompressed") => Some(Self::Plain),
            Some("gzip") => Some(Self::Gzip(level.unwrap_or(LEVEL).min(9))),
            Some("zstd") => Some(Self::Zstd),
            Some("estargz") => {
                return Err(Error::not_implemented(
                    "compression type estargz is not supported: use gzip or zstd",
                ));
            }
            Some(other) => return Err(Error::invalid(format!("unsupported layer compression type {other}"))),
        })
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Plain => media_type::OCI_LAYER,
            Self::Gzip(_) => media_type::OCI_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// Whether a blob has this form already.
    fn is_form_of(self, blob: &Descriptor) -> bool {
        match self {
            Self::Plain => is_plain(blob),
            Self::Gzip(_) => {
                matches!(blob.media_type.as_str(), media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP)
            }
            Self::Zstd => blob.media_type == media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// Whether a layer is an archive that nothing compresses.
pub(super) fn is_plain(blob: &Descriptor) -> bool {
    matches!(blob.media_type.as_str(), media_type::OCI_LAYER | media_type::DOCKER_LAYER)
}

/// The layers in another form. Those that are compressed already stay as they are unless `force` says otherwise.
pub(in crate::build) fn pack(
    batch: &Batch,
    layers: &[ImageLayer],
    packing: Packing,
    force: bool,
) -> Result<Vec<ImageLayer>> {
    let mut packed = layers.to_vec();
    let wanted = |layer: &ImageLayer| !packing.is_form_of(&layer.blob) && (force || is_plain(&layer.blob));
    let mut todo: Vec<&mut ImageLayer> = packed.iter_mut().filter(|layer| wanted(layer)).collect();
    for some in todo.chunks_mut(PARALLEL) {
        std::thread::scope(|scope| {
            let work: Vec<_> = some
                .iter_mut()
                .map(|layer| {
                    scope.spawn(|| {
                        layer.blob = one(batch, layer, packing)?;
                        Ok(())
                    })
                })
                .collect();
            work.into_iter().try_for_each(|one| {
                one.join().unwrap_or_else(|_| Err(Error::internal("the compressor died")))
            })
        })?;
    }
    Ok(packed)
}

fn one(batch: &Batch, layer: &ImageLayer, packing: Packing) -> Result<Descriptor> {
    let failed = |error: &io::Error| Error::io(format!("compress layer {}", layer.diff_id), error);
    let packed =
        |error: wharf_layer::Error| Error::internal(format!("compress layer {}: {error}", layer.diff_id));
    let blob = batch.open_blob(&layer.blob.digest)?;
    let (_, plain) = decompressor(BufReader::with_capacity(READ, blob)).map_err(packed)?;
    let mut writer = batch.blob()?;
    match packing {
        Packing::Plain => copy(plain, &mut writer),
        Packing::Gzip(level) => {
            let mut encoder = GzEncoder::new(&mut writer, flate2::Compression::new(level));
            copy(plain, &mut encoder).and_then(|()| encoder.finish().map(drop))
        }
        Packing::Zstd => {
            let mut encoder = compressor(Compression::Zstd, &mut writer).map_err(packed)?;
            copy(plain, &mut encoder).and_then(|()| encoder.finish())
        }
    }
    .map_err(|error| failed(&error))?;
    let (digest, size) = batch.keep(writer, None)?;
    Ok(Descriptor::new(packing.media_type(), digest, size))
}

/// Copies in pieces large enough for a compressor.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}
