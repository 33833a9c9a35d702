//! What an archive says is in it: Docker's `manifest.json`, or an OCI layout's `index.json`.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use wharf_layer::Compression;
use wharf_oci::image::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, media_type};
use wharf_oci::{Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use wharf_store::{Batch, Image, ImageLayer};

use super::DOCUMENT_LIMIT;
use super::archive::{Archive, Member, Tree};
use super::compose::{assemble, put_manifest, unpack};
use super::resolve::refused;
use crate::error::{Error, Result};

/// How deep an index may nest, and how many manifests it may lead to.
const DEPTH: usize = 4;
const MANIFESTS: usize = 1000;

/// An image in an archive with its names.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) image: Image,
    pub(super) names: Vec<Reference>,
}

/// One manifest that an OCI index leads to.
#[derive(Debug, Clone)]
struct Candidate {
    /// The entry of `index.json` that leads here.
    target: Descriptor,
    /// The manifest itself.
    descriptor: Descriptor,
    manifest: Manifest,
    /// Every document on the way, and every blob that the target leads to.
    documents: Vec<Digest>,
}

/// An entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads what an archive says and unpacks what is not yet.
pub(super) struct Layout<'a> {
    pub(super) archive: &'a Archive,
    pub(super) batch: &'a Batch,
    /// Which platforms are wanted; empty: this machine's, or the only one there is.
    pub(super) platforms: &'a [Platform],
}

impl Layout<'_> {
    /// All images.
    pub(super) fn images(&self) -> Result<Vec<Found>> {
        let candidates = match self.archive.find("index.json") {
            Some(member) => self.candidates(&self.document::<Index>(member, "index.json")?)?,
            None => Vec::new(),
        };
        if let Some(member) = self.archive.find("manifest.json") {
            let items: Vec<Item> = self.document(member, "manifest.json")?;
            return items.iter().map(|item| self.docker_image(item, &candidates)).collect();
        }
        if candidates.is_empty() {
            return Err(Error::invalid(
                "unrecognized image format: the archive has neither manifest.json nor index.json",
            ));
        }
        self.oci_images(candidates)
    }

    fn docker_image(&self, item: &Item, candidates: &[Candidate]) -> Result<Found> {
        let config_member = self.member(&item.config)?;
        let config: ImageConfig = self.document(config_member, &item.config)?;
        let paths = item.layers.as_deref().unwrap_or_default();
        let members = paths.iter().map(|path| self.member(path)).collect::<Result<Vec<_>>>()?;
        let names = item.repo_tags.iter().flatten().map(|name| Reference::parse(name).map_err(refused));
        let names = names.map(|name| Ok(name?.with_default_tag())).collect::<Result<Vec<_>>>()?;
        let descriptors: Vec<Descriptor> = members
            .iter()
            .map(|member| Descriptor::new(layer_type(member.compression), member.digest, member.size))
            .collect();
        self.check_platform(&config)?;
        let layers = self.layers(&config, &members, &descriptors)?;
        let config_descriptor =
            Descriptor::new(media_type::OCI_CONFIG, config_member.digest, config_member.size);
        let same = |candidate: &&Candidate| {
            let blobs = candidate.manifest.layers.iter().map(|layer| layer.digest);
            candidate.manifest.config.digest == config_member.digest
                && blobs.eq(members.iter().map(|member| member.digest))
        };
        let image = match candidates.iter().find(same) {
            Some(found) => assemble(
                &config,
                &config_descriptor,
                unnamed(&found.descriptor),
                unnamed(&found.target),
                layers,
                found.documents.clone(),
            ),
            None => {
                let manifest = put_manifest(self.batch, config_descriptor.clone(), &layers)?;
                let image =
                    assemble(&config, &config_descriptor, manifest.clone(), manifest, layers, Vec::new());
                Image { made: true, ..image }
            }
        };
        Ok(Found { image, names })
    }

    /// One image for each entry of the index: the best of its platforms.
    fn oci_images(&self, candidates: Vec<Candidate>) -> Result<Vec<Found>> {
        let mut order = Vec::new();
        let mut by_target: HashMap<Digest, Vec<Candidate>> = HashMap::new();
        let mut names: HashMap<Digest, Vec<Reference>> = HashMap::new();
        for candidate in candidates {
            let target = candidate.target.digest;
            if !by_target.contains_key(&target) {
                order.push(target);
            }
            let known = names.entry(target).or_default();
            if let Some(name) = annotated_name(&candidate.target)?.filter(|name| !known.contains(name)) {
                known.push(name);
            }
            by_target.entry(target).or_default().push(candidate);
        }
        let mut found = Vec::new();
        for target in order {
            let candidates = by_target.remove(&target).unwrap_or_default();
            let image = self.oci_image(&candidates)?;
            found.push(Found { image, names: names.remove(&target).unwrap_or_default() });
        }
        Ok(found)
    }

    fn oci_image(&self, candidates: &[Candidate]) -> Result<Image> {
        let chosen = self.choose(candidates)?;
        let config_member = self.blob(&chosen.manifest.config)?;
        let config: ImageConfig = self.document(config_member, "image config")?;
        self.check_platform(&config)?;
        if let Some(foreign) =
            chosen.manifest.layers.iter().find(|layer| !media_type::is_layer(&layer.media_type))
        {
            return Err(Error::invalid(format!("unsupported layer type {:?}", foreign.media_type)));
        }
        let members =
            chosen.manifest.layers.iter().map(|layer| self.blob(layer)).collect::<Result<Vec<_>>>()?;
        let layers = self.layers(&config, &members, &chosen.manifest.layers)?;
        // Other platforms of the same index are kept whole.
        let documents = candidates.iter().flat_map(|candidate| candidate.documents.clone()).collect();
        let descriptor = &chosen.manifest.config;
        Ok(assemble(
            &config,
            descriptor,
            unnamed(&chosen.descriptor),
            unnamed(&chosen.target),
            layers,
            documents,
        ))
    }

    /// The first wanted platform that is there whole; without a wish this machine's, or the only one.
    fn choose<'c>(&self, candidates: &'c [Candidate]) -> Result<&'c Candidate> {
        let whole: Vec<(&Candidate, Option<Platform>)> = candidates
            .iter()
            .filter(|candidate| !candidate.descriptor.is_attestation() && self.is_whole(&candidate.manifest))
            .map(|candidate| (candidate, self.platform(candidate)))
            .collect();
        let host = [Platform::host()];
        let wanted = if self.platforms.is_empty() { &host[..] } else { self.platforms };
        for platform in wanted {
            let fits = |of: &Option<Platform>| of.as_ref().is_some_and(|of| of.satisfies(platform));
            if let Some((found, _)) = whole.iter().find(|(_, of)| fits(of)) {
                return Ok(found);
            }
        }
        match whole.as_slice() {
            [(only, _)] if self.platforms.is_empty() => Ok(only),
            [] => Err(Error::invalid("the archive has no complete image")),
            _ => Err(Error::not_found(format!("no image for platform {} in the archive", wanted[0]))),
        }
    }

    /// From the descriptor, else from the config.
    fn platform(&self, candidate: &Candidate) -> Option<Platform> {
        candidate.descriptor.platform.clone().or_else(|| {
            let member = self.blob(&candidate.manifest.config).ok()?;
            Some(self.document::<ImageConfig>(member, "image config").ok()?.platform())
        })
    }

    fn is_whole(&self, manifest: &Manifest) -> bool {
        let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
        blobs.into_iter().all(|blob| self.archive.blob(&blob.digest).is_some())
    }

    /// Every manifest that the entries of `index.json` lead to.
    fn candidates(&self, index: &Index) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        for target in &index.manifests {
            let mut documents = HashSet::new();
            let from = found.len();
            self.follow(target, target, 0, &mut documents, &mut found)?;
            for candidate in &mut found[from..] {
                candidate.documents = documents.iter().copied().collect();
            }
        }
        Ok(found)
    }

    fn follow(
        &self,
        target: &Descriptor,
        at: &Descriptor,
        depth: usize,
        documents: &mut HashSet<Digest>,
        found: &mut Vec<Candidate>,
    ) -> Result<()> {
        if depth > DEPTH || found.len() > MANIFESTS {
            return Err(Error::invalid("index in the archive leads to too many manifests"));
        }
        // An index may name platforms that the archive leaves out.
        let Some(member) = self.archive.blob(&at.digest) else { return Ok(()) };
        documents.insert(at.digest);
        if media_type::is_index(&at.media_type) {
            let index: Index = self.document(member, "index")?;
            return index
                .manifests
                .iter()
                .try_for_each(|next| self.follow(target, next, depth + 1, documents, found));
        }
        if !media_type::is_manifest(&at.media_type) {
            return Ok(());
        }
        let manifest: Manifest = self.document(member, "manifest")?;
        let blobs = std::iter::once(&manifest.config).chain(&manifest.layers).map(|blob| blob.digest);
        documents.extend(blobs.filter(|digest| self.archive.blob(digest).is_some()));
        let (target, descriptor) = (bare(target), at.clone());
        found.push(Candidate { target, descriptor, manifest, documents: Vec::new() });
        Ok(())
    }

    /// Holds the layers against the config, then unpacks what is not yet.
    fn layers(
        &self,
        config: &ImageConfig,
        members: &[&Member],
        blobs: &[Descriptor],
    ) -> Result<Vec<ImageLayer>> {
        let expected = &config.rootfs.diff_ids;
        if expected.len() != members.len() {
            return Err(Error::invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                members.len(),
                expected.len()
            )));
        }
        let mut layers = Vec::with_capacity(members.len());
        for (at, ((member, diff_id), blob)) in members.iter().zip(expected).zip(blobs).enumerate() {
            check_layer(at, member, *diff_id)?;
            layers.push(ImageLayer { diff_id: *diff_id, blob: bare(blob), size: 0 });
        }
        unpack(self.batch, &mut layers)?;
        Ok(layers)
    }

    fn check_platform(&self, config: &ImageConfig) -> Result<()> {
        let platform = config.platform();
        if self.platforms.is_empty() || self.platforms.iter().any(|wanted| platform.satisfies(wanted)) {
            return Ok(());
        }
        Err(Error::not_found(format!(
            "requested platform(s) ({}) not found: image has {platform}",
            self.platforms[0]
        )))
    }

    fn member(&self, path: &str) -> Result<&Member> {
        self.archive.find(path).ok_or_else(|| Error::invalid(format!("{path} is missing in the archive")))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<&Member> {
        let missing = || Error::invalid(format!("blob {} is missing in the archive", descriptor.digest));
        let member = self.archive.blob(&descriptor.digest).ok_or_else(missing)?;
        if member.size != descriptor.size {
            let (digest, size) = (descriptor.digest, descriptor.size);
            return Err(Error::invalid(format!("blob {digest} has {} bytes, expected {size}", member.size)));
        }
        Ok(member)
    }

    fn document<T: for<'de> Deserialize<'de>>(&self, member: &Member, name: &str) -> Result<T> {
        if member.size > DOCUMENT_LIMIT {
            return Err(Error::invalid(format!("{name} in the archive is too large")));
        }
        let bytes = self.batch.read_blob(&member.digest, DOCUMENT_LIMIT)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("{name} in the archive: {error}")))
    }
}

fn check_layer(at: usize, member: &Member, expected: DiffId) -> Result<()> {
    match &member.tree {
        Tree::Refused(error) => Err(error.clone()),
        Tree::Unpacked(layer) if layer.diff_id != expected => Err(Error::invalid(format!(
            "invalid diffID for layer {at}: expected \"{expected}\", got \"{}\"",
            layer.diff_id
        ))),
        _ => Ok(()),
    }
}

/// The descriptor without what an index says about the entry.
fn bare(descriptor: &Descriptor) -> Descriptor {
    Descriptor {
        annotations: descriptor.annotations.clone(),
        ..Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size)
    }
}

/// The descriptor without the name that an archive gave it: names are kept apart from what they point to.
fn unnamed(descriptor: &Descriptor) -> Descriptor {
    let mut descriptor = descriptor.clone();
    descriptor.annotations.remove(ANNOTATION_IMAGE_NAME);
    descriptor.annotations.remove(ANNOTATION_REF_NAME);
    descriptor
}

const fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => media_type::OCI_LAYER_GZIP,
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        _ => media_type::OCI_LAYER,
    }
}

/// The name an index entry carries. A whole name counts in either annotation; a word alone is taken for a tag of
/// nothing when it looks like a version, for a name else.
fn annotated_name(entry: &Descriptor) -> Result<Option<Reference>> {
    let named = |text: &String| Ok(Some(Reference::parse(text).map_err(refused)?.with_default_tag()));
    if let Some(name) = entry.annotations.get(ANNOTATION_IMAGE_NAME) {
        return named(name);
    }
    match entry.annotations.get(ANNOTATION_REF_NAME) {
        Some(name) if is_name(name) => named(name),
        _ => Ok(None),
    }
}

fn is_name(text: &str) -> bool {
    let word = text != "latest" && text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.contains('.');
    text.contains(['/', ':']) || word
}
