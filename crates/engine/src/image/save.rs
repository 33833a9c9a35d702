//! Images as an archive: `docker save`. The blobs go out as they came in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use serde::Serialize;
use wharf_layer::tar::{Entry, Kind, Writer};
use wharf_oci::image::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, media_type};
use wharf_oci::{Descriptor, Digest, Index, Platform, Reference};
use wharf_store::Image;

use super::Images;
use super::resolve::refused;
use crate::body::{ByteSender, ByteStream};
use crate::error::{Error, Result};
use crate::pools::Class;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion": "1.0.0"}"#;

/// An image to save, and the names to save it under.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) image: Arc<Image>,
    pub(crate) names: Vec<Reference>,
}

/// An entry of Docker's `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<String, Descriptor>,
}

impl Images {
    /// An archive, both docker-archive and OCI layout, of the images named. A repository alone means all its tags.
    pub async fn save(self: &Arc<Self>, names: &[String], platforms: &[Platform]) -> Result<ByteStream> {
        let wanted = self.wanted(names)?;
        for wanted in &wanted {
            if let Some(platform) = platforms.iter().find(|asked| !wanted.image.platform.satisfies(asked)) {
                return Err(Error::not_found(format!(
                    "no suitable export target found for platform {platform}"
                )));
            }
        }
        let (sender, stream) = ByteStream::channel();
        let images = Arc::clone(self);
        let pools = self.pools.clone();
        tokio::spawn(async move {
            let broken = sender.clone();
            if let Err(error) = pools.run(Class::Images, move || images.write(&wanted, sender)).await {
                broken.fail(error).await;
            }
        });
        Ok(stream)
    }

    fn wanted(&self, names: &[String]) -> Result<Vec<Wanted>> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut add = |image: Arc<Image>, name: Option<Reference>| {
            let at = wanted.iter().position(|wanted| wanted.image.id == image.id);
            let at = at.unwrap_or_else(|| {
                wanted.push(Wanted { image, names: Vec::new() });
                wanted.len() - 1
            });
            let names = &mut wanted[at].names;
            names.extend(name.filter(|name| !names.contains(name)));
        };
        for text in names {
            let missing = |_| Error::not_found(format!("No such image: {text}"));
            if text.parse::<Digest>().is_ok() || Digest::from_hex(text).is_ok() {
                add(self.resolve(text).map_err(missing)?, None);
                continue;
            }
            let name = Reference::parse(text).map_err(refused)?;
            let tags = if name.is_name_only() { self.tags_of(&name.repository()) } else { Vec::new() };
            if tags.is_empty() {
                let image = self.resolve(text).map_err(missing)?;
                // An id that looks like a name is saved without one.
                let named = self.by_name(&name).is_some() && name.tag().is_some() && name.digest().is_none();
                add(image, named.then_some(name));
                continue;
            }
            tags.into_iter().for_each(|(tag, image)| add(image, Some(tag)));
        }
        Ok(wanted)
    }

    /// Every tag of a repository, and its image.
    fn tags_of(&self, repository: &str) -> Vec<(Reference, Arc<Image>)> {
        let names = self.store.names().into_iter();
        let tags = names.filter(|(name, _)| name.digest().is_none() && name.repository() == repository);
        tags.filter_map(|(name, target)| Some((name, self.store.image(&target.image)?))).collect()
    }

    fn write(&self, wanted: &[Wanted], sender: ByteSender) -> Result<()> {
        write_archive(wanted, true, sender.into_writer(), |digest| Ok(self.store.open_blob(digest)?))?;
        wanted.iter().for_each(|wanted| self.emit_id("save", &wanted.image));
        Ok(())
    }
}

/// Writes an OCI layout as an archive, with Docker's documents where `docker` says so.
pub(crate) fn write_archive(
    wanted: &[Wanted],
    docker: bool,
    output: impl Write,
    open: impl Fn(&Digest) -> Result<File>,
) -> Result<()> {
    let mut writer = Writer::new(output);
    for directory in ["blobs/", "blobs/sha256/"] {
        let mut entry = Entry::new(Kind::Directory, directory);
        entry.mode = 0o755;
        writer.append(&entry).map_err(broken)?;
    }
    let blobs: BTreeSet<Digest> =
        wanted.iter().flat_map(|wanted| wanted.image.blobs.iter().copied()).collect();
    for digest in blobs {
        let file = open(&digest)?;
        let size = file.metadata().map_err(|error| Error::io(format!("read blob {digest}"), &error))?.len();
        append(&mut writer, &format!("blobs/sha256/{}", digest.hex()), size, file)?;
    }
    for (name, bytes) in documents(wanted)? {
        if docker || matches!(name, "index.json" | "oci-layout") {
            append(&mut writer, name, bytes.len() as u64, bytes.as_slice())?;
        }
    }
    let mut output = writer.finish().map_err(broken)?;
    output.flush().map_err(|error| Error::io("write image archive", &error))
}

fn append(writer: &mut Writer<impl Write>, name: &str, size: u64, content: impl Read) -> Result<()> {
    let mut entry = Entry::new(Kind::File, name);
    (entry.mode, entry.size) = (0o644, size);
    writer.append_file(&entry, content).map_err(broken)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: wharf_layer::Error) -> Error {
    Error::internal(format!("write image archive: {error}"))
}

/// The documents beside the blobs, in the order in which Docker writes them.
fn documents(wanted: &[Wanted]) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut manifests = Vec::new();
    let mut items = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Wanted { image, names } in wanted {
        manifests.extend(entries(image, names));
        items.push(item(image, names));
        for name in names {
            let tags = repositories.entry(name.familiar_name()).or_default();
            tags.insert(name.tag().unwrap_or_default().to_owned(), image.id.hex());
        }
    }
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests,
        annotations: BTreeMap::new(),
    };
    let mut documents = vec![
        ("index.json", json(&index)?),
        ("manifest.json", json(&items)?),
        ("oci-layout", LAYOUT.to_vec()),
    ];
    if !repositories.is_empty() {
        documents.push(("repositories", json(&repositories)?));
    }
    Ok(documents)
}

/// What the index says of an image: one entry for each name, or one without.
fn entries(image: &Image, names: &[Reference]) -> Vec<Descriptor> {
    let target = Descriptor { platform: None, ..image.target.clone() };
    let unnamed = |mut entry: Descriptor| {
        entry.annotations.remove(ANNOTATION_IMAGE_NAME);
        entry.annotations.remove(ANNOTATION_REF_NAME);
        entry
    };
    if names.is_empty() {
        return vec![unnamed(target)];
    }
    let named = |name: &Reference| {
        let mut entry = unnamed(target.clone());
        entry.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), name.to_string());
        entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.tag().unwrap_or_default().to_owned());
        entry
    };
    names.iter().map(named).collect()
}

fn item(image: &Image, names: &[Reference]) -> Item {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    Item {
        config: path(&image.id),
        repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
        layers: image.layers.iter().map(|layer| path(&layer.blob.digest)).collect(),
        layer_sources: image
            .layers
            .iter()
            .map(|layer| (layer.diff_id.to_string(), layer.blob.clone()))
            .collect(),
    }
}

fn json(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| Error::internal(error.to_string()))
}
