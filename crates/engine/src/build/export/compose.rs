//! Configs, manifests and the index over them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Reference};
use wharf_store::{Batch, Image, ImageLayer};

use super::attest::{self, Statement, put};
use super::options::{AnnotationPlace, Wishes};
use super::provenance::{self, Times};
use super::{Exported, Packing, Product, compress, history};
use crate::build::{Build, Step};
use crate::error::{Error, Result};
use crate::image::assemble;

/// One platform's image.
pub(super) struct Made {
    pub(super) config: ImageConfig,
    pub(super) config_descriptor: Descriptor,
    pub(super) manifest: Descriptor,
    pub(super) layers: Vec<ImageLayer>,
}

/// A config with what another build can go on from.
#[derive(serde::Serialize)]
struct WithCache<'a> {
    #[serde(flatten)]
    config: &'a ImageConfig,
    #[serde(rename = "moby.buildkit.cache.v0", skip_serializing_if = "Option::is_none")]
    cache: Option<String>,
}

/// All that comes under one name.
pub(super) struct Composed {
    /// One for each product.
    pub(super) made: Vec<Made>,
    /// Which of them this machine runs, else the first.
    pub(super) primary: usize,
    /// The manifest, or the index.
    pub(super) target: Descriptor,
    /// Blobs beside the primary's own.
    pub(super) more: Vec<Digest>,
}

impl Build {
    /// Makes the documents of an image. Layers keep their form where `packing` says none.
    pub(super) fn compose(
        &self,
        step: &Step,
        batch: &Batch,
        products: &[Product],
        wishes: &Wishes,
        names: &[Reference],
        packing: Option<Packing>,
    ) -> Result<Composed> {
        if products.is_empty() {
            return Err(Error::invalid("the build has no result"));
        }
        let made = step.part("exporting layers", || {
            products
                .iter()
                .map(|product| self.make(batch, product, wishes, packing))
                .collect::<Result<Vec<Made>>>()
        })?;
        let host = wharf_oci::Platform::host();
        let primary = products.iter().position(|product| product.platform.satisfies(&host)).unwrap_or(0);
        let mut more: Vec<Digest> = Vec::new();
        for (_, other) in made.iter().enumerate().filter(|(at, _)| *at != primary) {
            more.extend([other.manifest.digest, other.config_descriptor.digest]);
            more.extend(other.layers.iter().map(|layer| layer.blob.digest));
        }
        let target = match (&made[..], &wishes.provenance, &wishes.sbom) {
            ([only], None, None) => only.manifest.clone(),
            _ => self.index(batch, products, &made, wishes, names, &mut more)?,
        };
        Ok(Composed { made, primary, target, more })
    }

    fn make(
        &self,
        batch: &Batch,
        product: &Product,
        wishes: &Wishes,
        packing: Option<Packing>,
    ) -> Result<Made> {
        let found = self.layers(batch, product.tree.as_ref(), wishes.epoch)?;
        let config = history::complete(product.config.clone(), &found.dated, wishes.epoch);
        let cache = if wishes.inline_cache { self.inline_cache(product)? } else { None };
        let config_descriptor = put(batch, media_type::OCI_CONFIG, &WithCache { config: &config, cache })?;
        let mut layers = found.layers;
        match (packing, self.builds.store.image(&config_descriptor.digest)) {
            (Some(packing), _) => layers = compress::pack(batch, &layers, packing, wishes.force_packing)?,
            // Built before: its layers may have been compressed since, which is not undone.
            (None, Some(known)) if is_there(batch, &known) => layers.clone_from(&known.layers),
            (None, _) => {}
        }
        let platform = product.platform.to_string();
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config: config_descriptor.clone(),
            layers: layers.iter().map(|layer| layer.blob.clone()).collect(),
            subject: None,
            annotations: wishes.annotations_of(AnnotationPlace::Manifest, Some(&platform)),
        };
        let mut manifest = put(batch, media_type::OCI_MANIFEST, &manifest)?;
        manifest.annotations = wishes.annotations_of(AnnotationPlace::ManifestDescriptor, Some(&platform));
        Ok(Made { config, config_descriptor, manifest, layers })
    }

    /// The index over all manifests, and what is said of them.
    fn index(
        &self,
        batch: &Batch,
        products: &[Product],
        made: &[Made],
        wishes: &Wishes,
        names: &[Reference],
        more: &mut Vec<Digest>,
    ) -> Result<Descriptor> {
        let mut manifests: Vec<Descriptor> = made
            .iter()
            .zip(products)
            .map(|(made, product)| Descriptor {
                platform: Some(product.platform.clone()),
                ..made.manifest.clone()
            })
            .collect();
        for (made, product) in made.iter().zip(products) {
            let mut statements = Vec::new();
            if let (Some(wanted), Some(tree)) = (&wishes.sbom, &product.tree) {
                statements.extend(self.scan(&product.platform, tree, wanted)?);
            }
            // With a bound on times, nothing in the image differs from one build to the next: nor does this.
            let times = Times { started: self.started, finished: Timestamp::now() };
            let build = wishes.epoch.is_none().then_some((self.id.as_str(), times));
            let provenance = wishes.provenance.as_ref();
            statements.extend(
                provenance.map(|wanted| provenance::statement(product, wanted, &wishes.frontend, build)),
            );
            let known = self.builds.store.image(&made.config_descriptor.digest);
            let before = match &statements[..] {
                [] => continue,
                [only] => known.and_then(|known| said_before(batch, &known, made, only)),
                _ => None,
            };
            let entry = match before {
                Some(entry) => entry,
                None => attest::attach(batch, &made.manifest, &product.platform, names, &statements)?,
            };
            let inner: Manifest = attest::read(batch, &entry.digest)?;
            more.extend([entry.digest, inner.config.digest]);
            more.extend(inner.layers.iter().map(|layer| layer.digest));
            manifests.push(entry);
        }
        attest::index(batch, manifests, wishes.annotations_of(AnnotationPlace::Index, None))
    }
}

impl Composed {
    /// The record of the image.
    pub(super) fn record(&self) -> Image {
        let made = &self.made[self.primary];
        assemble(
            &made.config,
            &made.config_descriptor,
            made.manifest.clone(),
            self.target.clone(),
            made.layers.clone(),
            self.more.clone(),
        )
    }

    pub(super) fn exported(&self, names: &[Reference]) -> Exported {
        let id = self.made[self.primary].config_descriptor.digest;
        let mut response = BTreeMap::from([
            ("containerimage.config.digest".to_owned(), id.to_string()),
            ("containerimage.digest".to_owned(), self.target.digest.to_string()),
        ]);
        if let Ok(descriptor) = serde_json::to_vec(&self.target) {
            let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, descriptor);
            response.insert("containerimage.descriptor".to_owned(), text);
        }
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            response.insert("image.name".to_owned(), names.join(","));
        }
        Exported { id, target: self.target.clone(), response }
    }
}

/// Keeps an image's blobs, if all are there.
fn is_there(batch: &Batch, image: &Image) -> bool {
    image.blobs.iter().all(|blob| batch.blob_size(blob).is_some())
}

/// What the image's own index says of it already, when it is the same but for the time of the build: an image that was
/// not built again was built then.
fn said_before(batch: &Batch, known: &Image, made: &Made, statement: &Statement) -> Option<Descriptor> {
    if known.manifest.digest != made.manifest.digest || known.target.digest == known.manifest.digest {
        return None;
    }
    let index: Index = attest::read(batch, &known.target.digest).ok()?;
    let mut said = index.manifests.into_iter().filter(Descriptor::is_attestation);
    let (entry, None) = (said.next()?, said.next()) else { return None };
    let manifest: Manifest = attest::read(batch, &entry.digest).ok()?;
    let [layer] = &manifest.layers[..] else { return None };
    let document: serde_json::Value = attest::read(batch, &layer.digest).ok()?;
    let same = document["predicateType"] == statement.predicate_type.as_str()
        && provenance::timeless(&document["predicate"]) == provenance::timeless(&statement.predicate);
    same.then_some(entry)
}
