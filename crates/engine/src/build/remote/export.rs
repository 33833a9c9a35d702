//! Writing a cache: the results of a build's steps, and the layers that they are made of.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use base64::Engine as _;
use tokio::io::AsyncRead;
use wharf_build::solve::Tree;
use wharf_distribution::client::{Repository, Source, Target, Upload};
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, Digest, Manifest};
use wharf_store::{Batch, Chain, ChainLayer, ImageLayer};

use super::document::{
    CONFIG, CacheChain, CacheConfig, CacheLayer, CacheRecord, LIMIT, LayerAnnotations, Made, slot, text,
};
use super::{CacheOptions, host};
use crate::build::export::{Packing, Product, pack};
use crate::build::{Build, BuildFailure, Step, canceled};
use crate::error::{Error, Result};

/// Layers that are asked about and sent at a time.
const PARALLEL: usize = 4;

/// Where a cache goes.
enum To<'a> {
    Registry(&'a Repository, &'a Target),
    /// A store of the client's.
    Client(&'a str),
}

/// The results of a build, by slot.
type Results = BTreeMap<Digest, (Chain, Option<Made>)>;

impl Build {
    /// Writes the results of this build's steps to a cache at a registry or in a directory of the client's: those that the
    /// image is made of, or all. On a thread that may sleep; gives what the client is told.
    ///
    /// # Errors
    /// When the registry or the client refuses it, or the disk fails.
    pub fn export_cache(
        &self,
        products: &[Product],
        options: &CacheOptions,
    ) -> std::result::Result<BTreeMap<String, String>, BuildFailure> {
        match options.kind.as_str() {
            "registry" => {
                let reference = options.reference()?;
                self.step("exporting cache to registry", |step| {
                    let credentials = self.client().credentials(host(&reference));
                    let client = self.builds.registries.client();
                    let repository = client.repository(&reference, credentials).for_push();
                    let to = To::Registry(&repository, &Target::of(&reference));
                    self.export_to(step, products, options, &to)
                })
            }
            "local" => {
                let store = options.store("dest")?;
                self.step("exporting cache to client directory", |step| {
                    self.export_to(step, products, options, &To::Client(&store))
                })
            }
            other => {
                Err(Error::not_implemented(format!("cache export of type {other} is not supported")).into())
            }
        }
    }

    fn export_to(
        &self,
        step: &Step,
        products: &[Product],
        options: &CacheOptions,
        to: &To<'_>,
    ) -> std::result::Result<BTreeMap<String, String>, BuildFailure> {
        let results = self.results(products, options.max()?);
        let (batch, config, layers) = step.part("preparing build cache for export", || {
            let (config, layers) = self.cache_config(&results)?;
            Ok::<_, Error>((self.builds.store.batch()?, config, layers))
        })?;
        let (config, layers) = self.packed(&batch, config, layers)?;
        let manifest = self.send(step, &batch, to, &config, &layers)?;
        let text = serde_json::to_string(&manifest).unwrap_or_default();
        Ok(BTreeMap::from([("cache.manifest".to_owned(), text)]))
    }

    /// The results of this build: all, or those that are part of a product.
    fn results(&self, products: &[Product], all: bool) -> Results {
        let keys = self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut results = Results::new();
        for key in keys {
            let here = self.hold.results(&key);
            let made = self.hold.cache().recipe_of(&key).map(|of| Made { of, key });
            for (at, chain) in here.unwrap_or_else(|| self.taken_before(&key)).into_iter().enumerate() {
                let part = || {
                    let of =
                        |tree: &Tree| matches!(tree, Tree::Chain(whole) if place(whole, &chain).is_some());
                    products.iter().any(|product| product.tree.as_ref().is_some_and(of))
                };
                if all || part() {
                    results.insert(slot(&key, at), (chain, made));
                }
            }
        }
        results
    }

    /// The config over results, and its layers, those of base images among them; new ones are layers of the store then.
    fn cache_config(&self, results: &Results) -> Result<(CacheConfig, Vec<Option<ImageLayer>>)> {
        let store = &self.builds.store;
        let batch = store.batch()?;
        let (mut config, mut layers) = (CacheConfig::default(), Vec::new());
        let mut places: HashMap<&ChainLayer, usize> = HashMap::new();
        for (digest, (chain, made)) in results {
            let mut record =
                CacheRecord { digest: *digest, chains: Vec::new(), base: Vec::new(), made: *made };
            let mut places_of_chain = Vec::with_capacity(chain.len());
            let mut created = None;
            for layer in chain {
                let known = match layer {
                    ChainLayer::Image(_) => None,
                    ChainLayer::Step(id) => store.step_created(id),
                };
                created = known.or(created);
                let place = match places.get(layer) {
                    Some(place) => *place,
                    None => {
                        let place = layers.len();
                        let (entry, own) = entry(self, &batch, layer, known)?;
                        config.layers.push(entry);
                        layers.push(own);
                        places.insert(layer, place);
                        place
                    }
                };
                if matches!(layer, ChainLayer::Image(_)) {
                    record.base.push(place);
                }
                places_of_chain.push(place);
            }
            record.chains.push(CacheChain { layers: places_of_chain, created_at: created.and_then(text) });
            config.records.push(record);
        }
        batch.commit(Vec::new(), Vec::new())?;
        Ok((config, layers))
    }

    /// The new layers as they go out, and the config with their blobs.
    fn packed(
        &self,
        batch: &Batch,
        mut config: CacheConfig,
        layers: Vec<Option<ImageLayer>>,
    ) -> Result<(CacheConfig, Vec<ImageLayer>)> {
        let (places, own): (Vec<usize>, Vec<ImageLayer>) =
            layers.into_iter().enumerate().filter_map(|(at, layer)| Some((at, layer?))).unzip();
        for layer in &own {
            let gone = || Error::not_found(format!("layer {} was removed", layer.diff_id));
            batch.blob_size(&layer.blob.digest).ok_or_else(gone)?;
        }
        let packed = pack(batch, &own, Packing::default(), false)?;
        for (place, layer) in places.iter().zip(&packed) {
            config.layers[*place].blob = layer.blob.digest;
            if let Some(annotations) = &mut config.layers[*place].annotations {
                annotations.media_type.clone_from(&layer.blob.media_type);
                annotations.size = layer.blob.size;
            }
        }
        Ok((config, packed))
    }

    fn send(
        &self,
        step: &Step,
        batch: &Batch,
        to: &To<'_>,
        config: &CacheConfig,
        layers: &[ImageLayer],
    ) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(config).map_err(|error| Error::internal(error.to_string()))?;
        if bytes.len() as u64 > LIMIT {
            return Err(Error::invalid(format!("the cache's config has more than {LIMIT} bytes")));
        }
        let config = Descriptor::new(CONFIG, batch.put(&bytes)?, bytes.len() as u64);
        let mut blobs: Vec<Descriptor> = Vec::new();
        for layer in layers {
            if !blobs.iter().any(|blob| blob.digest == layer.blob.digest) {
                blobs.push(layer.blob.clone());
            }
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config: config.clone(),
            layers: blobs.clone(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let document = serde_json::to_vec(&manifest).map_err(|error| Error::internal(error.to_string()))?;
        let all: Vec<&Descriptor> = blobs.iter().chain([&config]).collect();
        for some in all.chunks(PARALLEL) {
            std::thread::scope(|scope| {
                let work: Vec<_> =
                    some.iter().map(|blob| scope.spawn(|| self.send_blob(step, batch, to, blob))).collect();
                work.into_iter().try_for_each(|one| {
                    one.join().unwrap_or_else(|_| Err(Error::internal("the sender of a cache died")))
                })
            })?;
        }
        let digest = Digest::of(&document);
        let written = Descriptor::new(media_type::OCI_MANIFEST, digest, document.len() as u64);
        step.part(&format!("writing cache manifest {digest}"), || match to {
            To::Registry(repository, target) => {
                let document = document.clone().into();
                let put = repository.put_manifest(target, media_type::OCI_MANIFEST, document);
                self.runtime.block_on(put).map(drop).map_err(Error::from)
            }
            To::Client(store) => {
                let size = document.len() as u64;
                let written = self.client().write_blob(store, &digest, size, &mut document.as_slice());
                written.map_err(Error::invalid)
            }
        })?;
        Ok(written)
    }

    fn send_blob(&self, step: &Step, batch: &Batch, to: &To<'_>, blob: &Descriptor) -> Result<()> {
        let source = Blob { batch, digest: blob.digest };
        let word = if blob.media_type == CONFIG { "config" } else { "layer" };
        step.part(&format!("writing {word} {}", blob.digest), || match to {
            To::Registry(repository, _) => self.runtime.block_on(async {
                tokio::select! {
                    sent = repository.push_blob(Upload::new(blob.digest, blob.size, &source)) => {
                        sent.map(drop).map_err(Error::from)
                    }
                    () = canceled(self.cancel()) => Err(Error::unavailable("context canceled")),
                }
            }),
            To::Client(store) => {
                let mut file = batch.open_blob(&blob.digest)?;
                let written = self.client().write_blob(store, &blob.digest, blob.size, &mut file);
                written.map_err(Error::invalid)
            }
        })
    }

    /// The entry of an image's config that lets another build go on from it: which of its layers came of which steps.
    pub(in crate::build) fn inline_cache(&self, product: &Product) -> Result<Option<String>> {
        let Some(Tree::Chain(whole)) = &product.tree else { return Ok(None) };
        let results = self.results(std::slice::from_ref(product), false);
        let mut records = Vec::new();
        for (digest, (chain, made)) in results {
            let Some(first) = place(whole, &chain) else { continue };
            let base = chain.iter().enumerate().filter(|(_, layer)| matches!(layer, ChainLayer::Image(_)));
            let created = match chain.last() {
                Some(ChainLayer::Step(id)) => self.builds.store.step_created(id).and_then(text),
                _ => None,
            };
            records.push(CacheRecord {
                digest,
                base: base.map(|(at, _)| first + at).collect(),
                chains: vec![CacheChain {
                    layers: (first..first + chain.len()).collect(),
                    created_at: created,
                }],
                made,
            });
        }
        let bytes = serde_json::to_vec(&records).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Some(base64::engine::general_purpose::STANDARD.encode(bytes)))
    }
}

/// What is written of a layer, and the layer itself where it is new.
fn entry(
    build: &Build,
    batch: &Batch,
    layer: &ChainLayer,
    created: Option<i64>,
) -> Result<(CacheLayer, Option<ImageLayer>)> {
    let store = &build.builds.store;
    let (known, new) = match layer {
        ChainLayer::Image(diff_id) => {
            let known = store.image_layer(diff_id);
            (
                known.ok_or_else(|| Error::not_found(format!("layer {diff_id} is of no image any more")))?,
                false,
            )
        }
        ChainLayer::Step(id) => {
            let made = store.export_step(batch, id, None)?;
            let packed = store.image_layer(&made.diff_id);
            (packed.filter(|layer| batch.blob_size(&layer.blob.digest).is_some()).unwrap_or(made), true)
        }
    };
    let annotations = LayerAnnotations {
        media_type: known.blob.media_type.clone(),
        diff_id: known.diff_id,
        size: known.blob.size,
        created_at: created.and_then(text),
    };
    let entry = CacheLayer { blob: known.blob.digest, parent: -1, annotations: Some(annotations) };
    Ok((entry, new.then_some(known)))
}

/// Where in a product's layers a result's are.
fn place(whole: &Chain, chain: &Chain) -> Option<usize> {
    if chain.is_empty() {
        return None;
    }
    whole.windows(chain.len()).position(|part| part == chain)
}

/// A blob as the client of a registry reads it.
struct Blob<'a> {
    batch: &'a Batch,
    digest: Digest,
}

impl Source for Blob<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let mut file: File = self.batch.open_blob(&self.digest).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }
}
