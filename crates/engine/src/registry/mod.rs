//! How registries are reached: one client, as the settings have it, and how many transfers may be under way.

mod error;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wharf_distribution::client::{Client, Config, Credentials, Login, Proxies};

use crate::config::EngineConfig;
use crate::error::{Error, Result};

pub use wharf_distribution::client::Credentials as RegistryCredentials;

/// What can be set about registries beside mirrors and those that are insecure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Directories with a subdirectory of certificates a host; the first that has one counts.
    pub certificates: Vec<PathBuf>,
    /// Proxy for `http://` addresses; empty for none, as with the next.
    pub http_proxy: String,
    /// Proxy for `https://` addresses.
    pub https_proxy: String,
    /// Hosts that are reached without a proxy, comma-separated.
    pub no_proxy: String,
    /// Layers fetched at a time, over all pulls.
    pub downloads: usize,
    /// Layers sent at a time, over all pushes.
    pub uploads: usize,
    /// Attempts of a transfer before it is given up.
    pub attempts: u32,
    /// Address of the index that searches ask; empty for none.
    pub search_index: String,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            certificates: Config::default().certificates,
            http_proxy: String::new(),
            https_proxy: String::new(),
            no_proxy: String::new(),
            downloads: 3,
            uploads: 5,
            attempts: 5,
            search_index: String::new(),
        }
    }
}

/// The way to registries; what is under way when the settings change goes on under the old ones.
#[derive(Debug)]
pub struct Registries {
    now: RwLock<Arc<Now>>,
}

#[derive(Debug)]
struct Now {
    client: Client,
    search_index: String,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Registries {
    /// By the settings of `config`.
    pub fn new(config: &EngineConfig) -> Result<Self> {
        Ok(Self { now: RwLock::new(Arc::new(Now::of(config)?)) })
    }

    /// Takes the settings of `config` from now on. Settings that cannot be used change nothing.
    pub fn configure(&self, config: &EngineConfig) -> Result<()> {
        let new = Arc::new(Now::of(config)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.now().client.clone()
    }

    /// The index that searches ask.
    pub fn search_index(&self) -> Option<String> {
        Some(self.now().search_index.clone()).filter(|index| !index.is_empty())
    }

    /// Tries credentials at a registry: `localhost:5000`, `https://index.docker.io/v1/`; nothing means the hub.
    pub async fn login(&self, address: &str, credentials: &Credentials) -> Result<Login> {
        Ok(self.client().login(host(address), credentials).await?)
    }

    /// Waits for a turn to download.
    pub(crate) async fn download(&self) -> Result<OwnedSemaphorePermit> {
        turn(self.now().downloads.clone()).await
    }

    /// A turn to download, if one is free.
    pub(crate) fn download_now(&self) -> Option<OwnedSemaphorePermit> {
        self.now().downloads.clone().try_acquire_owned().ok()
    }

    /// Waits for a turn to upload.
    pub(crate) async fn upload(&self) -> Result<OwnedSemaphorePermit> {
        turn(self.now().uploads.clone()).await
    }

    fn now(&self) -> Arc<Now> {
        // Nothing panics while it is held.
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn turn(turns: Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    turns.acquire_owned().await.map_err(|_| Error::unavailable("the engine is closing"))
}

impl Now {
    fn of(config: &EngineConfig) -> Result<Self> {
        let settings = &config.registry;
        let client = Client::new(Config {
            mirrors: config.registry_mirrors.clone(),
            insecure: config.insecure_registries.clone(),
            certificates: settings.certificates.clone(),
            proxies: Proxies {
                http: settings.http_proxy.clone(),
                https: settings.https_proxy.clone(),
                none: settings.no_proxy.clone(),
            },
            attempts: settings.attempts.max(1),
            ..Config::default()
        })?;
        let turns = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self {
            client,
            search_index: settings.search_index.clone(),
            downloads: turns(settings.downloads),
            uploads: turns(settings.uploads),
        })
    }
}

/// The registry's host in a server address, as clients keep it beside credentials.
fn host(address: &str) -> &str {
    let bare = address.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_logins_become_hosts() {
        assert_eq!(host("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(host(""), "docker.io");
        assert_eq!(host("localhost:5000"), "localhost:5000");
        assert_eq!(host("http://r.example:5000/v2/"), "r.example:5000");
    }
}
