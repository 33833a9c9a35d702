//! A cache in front of another registry: what is asked for is fetched once, kept, and given out again.
//!
//! Digests name what never changes: once here, nobody is asked again. Tags are asked about when the last answer is older
//! than a while; where the upstream registry cannot be reached, what is here is given out as it is.

mod flight;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;
use wharf_oci::digest::Digest;
use wharf_oci::image::Descriptor;
use wharf_oci::reference::Reference;

use super::Registry;
use super::document;
use super::error::{Code, Refusal};
use super::handle::{blocking, local_manifest, local_referrers, local_tags};
use super::name::{Algorithm, ContentDigest, ManifestName, Repository, Tag};
use super::storage::StoredManifest;
use crate::client::{Client, Credentials, Error, Kind, Target};

pub(crate) use flight::{Fetched, Flight};

/// Which registry is cached, and how.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// `https://host[:port]` or `http://…`; `https://docker.io` is the hub.
    pub url: String,
    /// Who one is there.
    pub credentials: Credentials,
    /// How long the answer for a tag is believed.
    pub ttl: Duration,
    /// How the client behaves: certificates, proxies, patience.
    pub client: crate::client::Config,
}

impl Upstream {
    /// The registry at `url`, asked as nobody in particular, tags believed for five minutes.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: Credentials::Anonymous,
            ttl: Duration::from_secs(300),
            client: crate::client::Config::default(),
        }
    }
}

/// Who asks upstream about a tag right now.
type Turns = HashMap<(Repository, Tag), Weak<tokio::sync::Mutex<()>>>;

/// The upstream registry as the server uses it.
#[derive(Debug)]
pub(crate) struct Proxy {
    client: Client,
    host: String,
    credentials: Credentials,
    ttl: Duration,
    flights: tokio::sync::Mutex<HashMap<(Repository, ContentDigest), Arc<Flight>>>,
    asking: Mutex<Turns>,
}

impl Proxy {
    /// Reads the settings.
    pub(crate) fn new(upstream: Upstream) -> Result<Self, String> {
        let url = upstream.url.trim_end_matches('/');
        let (plain, host) = match url.split_once("://") {
            Some(("http", host)) => (true, host),
            Some(("https", host)) => (false, host),
            Some((scheme, _)) => return Err(format!("--proxy {url}: {scheme} is no scheme of registries")),
            None => (false, url),
        };
        let host = match host {
            "docker.io" | "registry-1.docker.io" | "index.docker.io" => "docker.io".to_owned(),
            // Without a dot or a port it would be read as the first part of a path.
            host if !host.contains(['.', ':']) && host != "localhost" => {
                format!("{host}:{}", if plain { 80 } else { 443 })
            }
            host => host.to_owned(),
        };
        Reference::parse(&format!("{host}/name"))
            .map_err(|_| format!("--proxy {url}: no registry's address"))?;
        let mut config = upstream.client;
        if plain {
            config.insecure.push(host.clone());
        }
        let client = Client::new(config).map_err(|error| format!("--proxy {url}: {error}"))?;
        Ok(Self {
            client,
            host,
            credentials: upstream.credentials,
            ttl: upstream.ttl,
            flights: tokio::sync::Mutex::default(),
            asking: Mutex::default(),
        })
    }

    fn upstream(&self, name: &Repository) -> Result<crate::client::Repository, Refusal> {
        let reference = Reference::parse(&format!("{}/{name}", self.host))
            .map_err(|error| Refusal::new(Code::NameInvalid, error.to_string()))?;
        Ok(self.client.repository(&reference, self.credentials.clone()))
    }

    /// A manifest: kept, or fetched and kept.
    pub(crate) async fn manifest(
        &self,
        registry: &Arc<Registry>,
        name: &Repository,
        reference: &ManifestName,
    ) -> Result<Option<StoredManifest>, Refusal> {
        match reference {
            ManifestName::Digest(digest) => {
                if let Some(manifest) = local_manifest(registry, name, reference).await? {
                    return Ok(Some(manifest));
                }
                let Some(digest) = sha256(digest) else { return Ok(None) };
                self.fetch(registry, name, &Target::Digest(digest), None).await.or_else(absent)
            }
            ManifestName::Tag(tag) => self.tagged(registry, name, tag).await,
        }
    }

    async fn tagged(
        &self,
        registry: &Arc<Registry>,
        name: &Repository,
        tag: &Tag,
    ) -> Result<Option<StoredManifest>, Refusal> {
        let reference = ManifestName::Tag(tag.clone());
        // One at a time asks about a tag; who waited finds the answer fresh.
        let turn = self.turn(name, tag);
        let _turn = turn.lock().await;
        let kept = local_manifest(registry, name, &reference).await?;
        let (storage, key) = (registry.storage.clone(), (name.clone(), tag.clone()));
        let age = blocking("look at a tag", move || storage.tag_age(&key.0, &key.1)).await?;
        if kept.is_some() && age.is_some_and(|age| age < self.ttl) {
            return Ok(kept);
        }
        match self.revalidate(registry, name, tag, kept.as_ref()).await {
            Ok(manifest) => Ok(manifest),
            Err(Failure::Upstream(error)) if error.kind() == Kind::NotFound => {
                let (storage, key) = (registry.storage.clone(), (name.clone(), tag.clone()));
                blocking("forget a tag", move || storage.remove_tag(&key.0, &key.1)).await?;
                Ok(None)
            }
            Err(Failure::Upstream(error)) if kept.is_some() => {
                super::log::say(&format!(
                    "upstream: {name}:{}: {error}; giving out what is kept",
                    tag.as_str()
                ));
                Ok(kept)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Asks what a tag names now, and fetches that if it is something else.
    async fn revalidate(
        &self,
        registry: &Arc<Registry>,
        name: &Repository,
        tag: &Tag,
        kept: Option<&StoredManifest>,
    ) -> Result<Option<StoredManifest>, Failure> {
        let target = Target::Tag(tag.as_str().to_owned());
        let now = self.upstream(name)?.resolve(&target).await?;
        let (storage, key) = (registry.storage.clone(), (name.clone(), tag.clone()));
        if let Some(kept) = kept.filter(|kept| kept.digest.to_string() == now.digest.to_string()) {
            blocking("confirm a tag", move || storage.confirm_tag(&key.0, &key.1)).await?;
            return Ok(Some(kept.clone()));
        }
        let known = ContentDigest::parse(&now.digest.to_string()).map(ManifestName::Digest);
        let manifest = match known {
            Some(digest) => local_manifest(registry, name, &digest).await?,
            None => None,
        };
        let manifest = match manifest {
            Some(manifest) => Some(manifest),
            None => self.fetch(registry, name, &Target::Digest(now.digest), Some(&now)).await?,
        };
        if let Some(digest) = manifest.as_ref().map(|manifest| manifest.digest.clone()) {
            blocking("keep a tag", move || storage.set_tag(&key.0, &key.1, &digest)).await?;
        }
        Ok(manifest)
    }

    /// Fetches a manifest and keeps it.
    async fn fetch(
        &self,
        registry: &Arc<Registry>,
        name: &Repository,
        target: &Target,
        expected: Option<&Descriptor>,
    ) -> Result<Option<StoredManifest>, Failure> {
        let fetched = self.upstream(name)?.manifest(target, expected).await?;
        let manifest = StoredManifest {
            media_type: fetched.descriptor.media_type.clone(),
            digest: ContentDigest::of(&fetched.bytes),
            bytes: fetched.bytes,
        };
        let document = document::read(&manifest.bytes, &manifest.media_type)
            .map_err(|error| Refusal::new(Code::ManifestInvalid, format!("upstream: {error}")))?;
        let (storage, name) = (registry.storage.clone(), name.clone());
        let manifest = blocking("keep a manifest", move || {
            storage.cache_manifest(&name, &manifest, &document)?;
            Ok(manifest)
        })
        .await?;
        Ok(Some(manifest))
    }

    fn turn(&self, name: &Repository, tag: &Tag) -> Arc<tokio::sync::Mutex<()>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if asking.len() > 1024 {
            asking.retain(|_, turn| turn.strong_count() > 0);
        }
        let key = (name.clone(), tag.clone());
        if let Some(turn) = asking.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        asking.insert(key, Arc::downgrade(&turn));
        turn
    }

    /// The size of a blob that is not kept.
    pub(crate) async fn blob_size(
        &self,
        name: &Repository,
        digest: &ContentDigest,
    ) -> Result<Option<u64>, Refusal> {
        let Some(digest) = sha256(digest) else { return Ok(None) };
        self.upstream(name)?.has_blob(digest).await.map_err(|error| Failure::Upstream(error).into())
    }

    /// The tags there; those kept here when it cannot be asked.
    pub(crate) async fn tags(
        &self,
        registry: &Arc<Registry>,
        name: &Repository,
    ) -> Result<Option<Vec<String>>, Refusal> {
        match self.upstream(name)?.tags().await {
            Ok(mut tags) => {
                tags.sort_unstable();
                Ok(Some(tags))
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => match local_tags(registry, name).await? {
                Some(tags) => Ok(Some(tags)),
                None => Err(Failure::Upstream(error).into()),
            },
        }
    }

    /// What refers to a manifest there; what is kept here when it cannot be asked.
    pub(crate) async fn referrers(
        &self,
        registry: &Arc<Registry>,
        name: &Repository,
        subject: &ContentDigest,
    ) -> Result<Vec<Value>, Refusal> {
        let Some(digest) = sha256(subject) else { return Ok(Vec::new()) };
        match self.upstream(name)?.referrers(digest, None).await {
            Ok(found) => Ok(found.iter().filter_map(|entry| serde_json::to_value(entry).ok()).collect()),
            Err(_) => local_referrers(registry, name, subject).await,
        }
    }
}

/// The client speaks sha256 only.
fn sha256(digest: &ContentDigest) -> Option<Digest> {
    (digest.algorithm() == Algorithm::Sha256).then(|| Digest::from_hex(digest.hex()).ok()).flatten()
}

/// Why something was not fetched: the registry there, or this side.
enum Failure {
    Upstream(Error),
    Here(Refusal),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Upstream(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Here(refusal)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Here(refusal) => refusal,
            Failure::Upstream(error) => {
                super::log::say(&format!("upstream: {error}"));
                Self::new(Code::Unknown, format!("the upstream registry: {error}"))
                    .with_status(StatusCode::BAD_GATEWAY)
            }
        }
    }
}

/// What is not there either is an answer.
fn absent<T>(failure: Failure) -> Result<Option<T>, Refusal> {
    match failure {
        Failure::Upstream(error) if error.kind() == Kind::NotFound => Ok(None),
        failure => Err(failure.into()),
    }
}
