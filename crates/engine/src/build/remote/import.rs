//! Reading a cache: its records when a key is missed for the first time.

use std::sync::{Arc, OnceLock, PoisonError};

use base64::Engine as _;
use serde::Deserialize;
use wharf_build::solve::Hold;
use wharf_distribution::client::{Manifests, Repository, Target};
use wharf_oci::{Descriptor, DiffId, Digest, History, Manifest};
use wharf_store::{Chain, ChainLayer, ImageLayer, Store};

use super::document::{CONFIG, CacheConfig, CacheRecord, Known, LIMIT, Remote, milliseconds, slot};
use super::{CacheOptions, Place, host};
use crate::build::{Build, BuildFailure, canceled};
use crate::error::{Error, Result};

/// Images of an index that are looked at, at most.
const PLATFORMS: usize = 32;
/// Results of one step that are looked for, at most.
const RESULTS: usize = 64;
/// Caches of one build, at most.
const SOURCES: usize = 64;

/// A cache that a build may take from.
#[derive(Debug, Clone)]
pub(in crate::build) struct Source {
    options: CacheOptions,
    read: Arc<OnceLock<Option<Arc<Read>>>>,
}

/// What is in it.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) known: Known,
    /// Where its layers are.
    pub(super) place: Place,
}

/// The manifest of a cache of files, or the index that older builders write in its place.
#[derive(Deserialize)]
struct LocalManifest {
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// What a cache needs of an image's config.
#[derive(Deserialize)]
struct Inline {
    rootfs: RootFs,
    #[serde(default)]
    history: Option<Vec<History>>,
    #[serde(rename = "moby.buildkit.cache.v0", default)]
    cache: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<DiffId>,
}

impl Build {
    /// The build may take results from these caches too. A kind that is not known is told as a failed step.
    pub fn import_from(&self, all: Vec<CacheOptions>) {
        for options in all {
            if !matches!(options.kind.as_str(), "registry" | "local") {
                let why =
                    Error::not_implemented(format!("cache import of type {} is not supported", options.kind));
                // The build goes on without it.
                let _ = self.step(&title(&options), |_| Err::<(), _>(BuildFailure::from(why)));
                continue;
            }
            let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            if sources.len() < SOURCES && !sources.iter().any(|known| known.options == options) {
                sources.push(Source { options, read: Arc::default() });
            }
        }
    }

    /// What other caches have for a key.
    pub(in crate::build) fn elsewhere(&self, key: &Digest, count: usize) -> Option<Vec<Chain>> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.taken(&sources, key, count)
    }

    /// Whether there are other caches.
    pub(in crate::build) fn has_elsewhere(&self) -> bool {
        !self.sources.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether another cache says that it has a key's results.
    pub(in crate::build) fn is_elsewhere(&self, key: &Digest, count: usize) -> bool {
        let has = |known: &Known| (0..count).all(|at| known.records.contains_key(&slot(key, at)));
        self.caches().any(|read| has(&read.known))
    }

    /// The key that other caches have for what is made of these.
    pub(in crate::build) fn recalled(&self, recipe: &Digest) -> Option<Digest> {
        self.caches().find_map(|read| read.known.recipes.get(recipe).copied())
    }

    /// The other caches, as far as they can be read.
    fn caches(&self) -> impl Iterator<Item = Arc<Read>> + '_ {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sources
            .into_iter()
            .filter_map(|source| source.read.get_or_init(|| self.read_cache(&source.options)).clone())
    }

    fn taken(&self, sources: &[Source], key: &Digest, count: usize) -> Option<Vec<Chain>> {
        sources.iter().find_map(|source| {
            let read = source.read.get_or_init(|| self.read_cache(&source.options)).as_ref()?;
            let all: Option<Vec<_>> = (0..count).map(|at| read.known.records.get(&slot(key, at))).collect();
            let chains: Result<Vec<Chain>> =
                all?.into_iter().map(|chain| self.chain_of(read, chain)).collect();
            match chains {
                Ok(chains) => Some(chains),
                Err(error) => {
                    tracing::warn!("build cache {}: {error}", source.options.shown());
                    None
                }
            }
        })
    }

    /// What caches that were read have for a key that the cache here knows nothing of: it was never needed, as what stands
    /// on it was there, and is brought over now.
    pub(super) fn taken_before(&self, key: &Digest) -> Vec<Chain> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = |source: &Source| source.read.get().cloned().flatten();
        let known = |at: usize| {
            sources.iter().filter_map(read).any(|read| read.known.records.contains_key(&slot(key, at)))
        };
        let count = (0..RESULTS).take_while(|at| known(*at)).count();
        if count == 0 { Vec::new() } else { self.taken(&sources, key, count).unwrap_or_default() }
    }

    fn chain_of(&self, read: &Read, chain: &[(usize, bool)]) -> Result<Chain> {
        let layers = chain.iter().map(|(at, base)| (&read.known.layers[*at], *base));
        // What the rest stands on comes first: without it, nothing is fetched.
        for (layer, _) in layers.clone().filter(|(_, base)| *base) {
            if !self.builds.store.has_chain(&[ChainLayer::Image(layer.diff_id)]) {
                return Err(Error::not_found(format!("base layer {} is not here", layer.diff_id)));
            }
        }
        layers
            .map(|(layer, base)| match base {
                true => Ok(ChainLayer::Image(layer.diff_id)),
                false => self.fetched_layer(read, layer),
            })
            .collect()
    }

    /// Reads a cache; what goes wrong is shown, and the build goes on.
    fn read_cache(&self, options: &CacheOptions) -> Option<Arc<Read>> {
        let read = self.step(&title(options), |_| match options.kind.as_str() {
            "local" => Ok(self.read_local(options)?),
            _ => Ok(self.read_registry(options)?),
        });
        read.map(Arc::new).map_err(|failure| tracing::warn!("{}: {failure}", title(options))).ok()
    }

    /// A cache in a directory of the client's, whose manifest the client names.
    fn read_local(&self, options: &CacheOptions) -> Result<Read> {
        let store = options.store("src")?;
        let digest = options.attributes.get("digest").map(String::as_str).unwrap_or_default();
        let digest: Digest =
            digest.parse().map_err(|_| Error::invalid("local cache importer requires explicit digest"))?;
        let wrong = |why: serde_json::Error| Error::invalid(format!("cache manifest {digest}: {why}"));
        let document = self.clients_document(&store, &digest)?;
        let manifest: LocalManifest = serde_json::from_slice(&document).map_err(wrong)?;
        let listed = manifest.layers.into_iter().chain(manifest.manifests).collect::<Vec<_>>();
        let config = manifest.config.filter(|config| config.media_type == CONFIG);
        let config = config.or_else(|| listed.iter().find(|entry| entry.media_type == CONFIG).cloned());
        let config =
            config.ok_or_else(|| Error::invalid(format!("cache manifest {digest} has no config")))?;
        let bytes = self.clients_document(&store, &config.digest)?;
        let parsed: CacheConfig = serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("cache config {}: {error}", config.digest)))?;
        Ok(Read { known: Known::of(parsed, &listed), place: Place::Client(store) })
    }

    /// A document of a client's store, which is what its digest says.
    pub(in crate::build) fn clients_document(&self, store: &str, digest: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut take = |more: &[u8]| {
            bytes.extend_from_slice(more);
            match bytes.len() as u64 > LIMIT {
                true => Err(format!("{digest} is larger than {LIMIT} bytes")),
                false => Ok(()),
            }
        };
        self.client().read_blob(store, digest, &mut take).map_err(Error::invalid)?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(Error::invalid(format!("the client gave other bytes than those of {digest}"))),
        }
    }

    fn read_registry(&self, options: &CacheOptions) -> Result<Read> {
        let reference = options.reference()?;
        if let Some(known) = local(&self.builds.store, &self.builds.images, &reference.familiar()) {
            return Ok(Read { known, place: Place::Here });
        }
        let credentials = self.client().credentials(host(&reference));
        let repository = self.builds.registries.client().repository(&reference, credentials);
        let target = Target::of(&reference);
        let known = self.runtime.block_on(async {
            tokio::select! {
                known = read(&repository, &target) => known,
                () = canceled(self.cancel()) => Err(Error::unavailable("context canceled")),
            }
        })?;
        Ok(Read { known, place: Place::Registry(Box::new(repository)) })
    }

    pub(super) fn holder(&self) -> &Hold {
        &self.hold
    }
}

fn title(options: &CacheOptions) -> String {
    format!("importing cache manifest from {}", options.shown())
}

/// The inline cache of an image that is here with all its layers.
fn local(store: &Store, images: &crate::image::Images, name: &str) -> Option<Known> {
    let image = images.resolve(name).ok()?;
    let config = store.read_blob(&image.id, LIMIT).ok()?;
    let layers: Vec<Descriptor> = image.layers.iter().map(|layer: &ImageLayer| layer.blob.clone()).collect();
    inline(&config, &layers).ok().flatten()
}

async fn read(repository: &Repository, target: &Target) -> Result<Known> {
    let document = repository.manifest(target, None).await?;
    let index = match document.manifests {
        Manifests::Image(manifest) => return of_image(repository, &manifest).await,
        Manifests::Index(index) => index,
    };
    if let Some(config) = index.manifests.iter().find(|entry| entry.media_type == CONFIG) {
        return of_config(repository, config, &index.manifests).await;
    }
    let mut all = Known::default();
    let images = index.manifests.iter().filter(|entry| !entry.is_attestation());
    for entry in images.take(PLATFORMS) {
        let inner = repository.manifest(&Target::Digest(entry.digest), Some(entry)).await?;
        let Manifests::Image(manifest) = inner.manifests else { continue };
        let known = of_image(repository, &manifest).await?;
        let first = all.layers.len();
        all.layers.extend(known.layers);
        for (slot, chain) in known.records {
            let chain = chain.into_iter().map(|(at, base)| (at + first, base)).collect();
            all.records.entry(slot).or_insert(chain);
        }
        all.recipes.extend(known.recipes);
    }
    Ok(all)
}

async fn of_image(repository: &Repository, manifest: &Manifest) -> Result<Known> {
    if manifest.config.media_type == CONFIG {
        return of_config(repository, &manifest.config, &manifest.layers).await;
    }
    let config = repository.small_blob(&manifest.config, LIMIT).await?;
    Ok(inline(&config, &manifest.layers)?.unwrap_or_default())
}

async fn of_config(repository: &Repository, config: &Descriptor, blobs: &[Descriptor]) -> Result<Known> {
    let bytes = repository.small_blob(config, LIMIT).await?;
    let parsed: CacheConfig = serde_json::from_slice(&bytes)
        .map_err(|error| Error::invalid(format!("cache config {}: {error}", config.digest)))?;
    Ok(Known::of(parsed, blobs))
}

/// The cache in an image's config; none where it has none.
fn inline(config: &[u8], blobs: &[Descriptor]) -> Result<Option<Known>> {
    let wrong = |why: &dyn std::fmt::Display| Error::invalid(format!("inline cache of an image: {why}"));
    let config: Inline = serde_json::from_slice(config).map_err(|error| wrong(&error))?;
    let Some(cache) = config.cache else { return Ok(None) };
    if config.rootfs.diff_ids.len() != blobs.len() {
        return Err(wrong(&"its config and its manifest name different layers"));
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(cache).map_err(|error| wrong(&error))?;
    let records: Vec<CacheRecord> = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    let history = config.history.unwrap_or_default();
    let mut times = history.iter().filter(|step| !step.empty_layer).map(|step| step.created.as_deref());
    let layers = blobs.iter().zip(&config.rootfs.diff_ids).map(|(blob, diff_id)| {
        let created = times.next().flatten().and_then(milliseconds).unwrap_or_default();
        Some(Remote { blob: blob.clone(), diff_id: *diff_id, created })
    });
    Ok(Some(Known::from_records(layers.collect(), records)))
}
