//! The registry in the box: the server's end of the OCI distribution spec 1.1.
//!
//! ```text
//! serve     connections, limits, the log         handle/   one file per noun of the API
//!   └ route, access  →  handle  →  uploads, storage, proxy
//! ```
//!
//! [`Server::start`] serves from threads of its own until [`Server::stop`]:
//!
//! ```no_run
//! use wharf_distribution::server::{Config, Server};
//! let server = Server::start(Config::new("/srv/registry"))?;
//! println!("http://{}", server.address());
//! server.stop();
//! # Ok::<(), wharf_distribution::server::StartError>(())
//! ```

mod access;
mod body;
pub mod document;
mod error;
mod handle;
mod log;
mod name;
mod outlet;
mod patience;
mod proxy;
pub mod range;
pub mod route;
mod serve;
mod storage;
mod tail;
mod tls;
mod uploads;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use error::{Code, Refusal};
pub use name::{Algorithm, ContentDigest, ManifestName, Repository, Tag, UploadId};
pub use proxy::Upstream;
pub use storage::{Collected, Keep};
pub use tls::Tls;

use access::Access;
use proxy::Proxy;
use storage::Storage;
use tls::Certificates;
use uploads::Uploads;

/// How long a stop waits for requests under way.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long an upload to which nothing is added is kept.
const UPLOAD_IDLE: Duration = Duration::from_secs(24 * 3600);

/// What a registry is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The folder of everything that is kept.
    pub root: PathBuf,
    /// Certificates; without them connections are plain.
    pub tls: Option<Tls>,
    /// A file of names and bcrypt hashes; without it everybody is let in.
    pub htpasswd: Option<PathBuf>,
    /// Whether tags, manifests and blobs may be deleted.
    pub delete: bool,
    /// Whether nothing may be changed.
    pub read_only: bool,
    /// A registry to be cached; nothing can be pushed then.
    pub proxy: Option<Upstream>,
    /// How often garbage is collected; never without this.
    pub gc_interval: Option<Duration>,
    /// What garbage collection keeps.
    pub keep: Keep,
    /// Whether each request is written to standard error.
    pub access_log: bool,
    /// The largest blob that is taken, in bytes.
    pub blob_limit: u64,
    /// How many uploads may be open at once.
    pub upload_limit: usize,
    /// How many connections may be open at once.
    pub connection_limit: usize,
}

impl Config {
    /// A registry that keeps its things in `root`, for this machine alone, on a port of the kernel's choice; quiet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            root: root.into(),
            tls: None,
            htpasswd: None,
            delete: false,
            read_only: false,
            proxy: None,
            gc_interval: None,
            keep: Keep { young: Duration::from_secs(3600), untagged: true },
            access_log: false,
            blob_limit: 256 << 30,
            upload_limit: 1024,
            connection_limit: 4096,
        }
    }
}

/// Why a registry does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("listen on {address}: {error}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// The folder cannot be used.
    #[error("{}: {error}", path.display())]
    Folder {
        /// As configured.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The address of the upstream registry cannot be used.
    #[error("{0}")]
    Proxy(String),
    /// The file of names cannot be used.
    #[error("{}: {error}", path.display())]
    Htpasswd {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// No thread could be started.
    #[error("start threads: {0}")]
    Threads(io::Error),
}

/// What the handlers look at.
#[derive(Debug)]
pub(crate) struct Options {
    delete: bool,
    read_only: bool,
    access_log: bool,
    blob_limit: u64,
    keep: Keep,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Registry {
    storage: Arc<Storage>,
    uploads: Arc<Uploads>,
    proxy: Option<Arc<Proxy>>,
    access: Option<Access>,
    options: Options,
}

impl Registry {
    fn open(config: &Config) -> Result<Self, StartError> {
        let folder = |error| StartError::Folder { path: config.root.clone(), error };
        let storage = Storage::open(&config.root).map_err(folder)?;
        let uploads = Uploads::open(storage.uploads(), config.upload_limit).map_err(folder)?;
        let htpasswd = |path: &PathBuf| {
            Access::open(path).map_err(|error| StartError::Htpasswd { path: path.clone(), error })
        };
        let proxy = config.proxy.clone().map(Proxy::new).transpose().map_err(StartError::Proxy)?;
        Ok(Self {
            storage: Arc::new(storage),
            uploads: Arc::new(uploads),
            proxy: proxy.map(Arc::new),
            access: config.htpasswd.as_ref().map(htpasswd).transpose()?,
            options: Options {
                delete: config.delete,
                read_only: config.read_only,
                access_log: config.access_log,
                blob_limit: config.blob_limit,
                keep: config.keep,
            },
        })
    }

    /// Refuses what changes something where nothing may be changed.
    fn writable(&self) -> Result<(), Refusal> {
        if self.options.read_only {
            return Err(Refusal::new(Code::Unsupported, "this registry is read-only"));
        }
        if self.proxy.is_some() {
            return Err(Refusal::new(Code::Unsupported, "this registry caches another one: push there"));
        }
        Ok(())
    }

    /// Refuses deletions where they are not switched on.
    fn deletable(&self) -> Result<(), Refusal> {
        if self.options.delete {
            return Ok(());
        }
        Err(Refusal::new(Code::Unsupported, "deleting is switched off"))
    }

    /// Collects garbage and forgets uploads that nobody goes on with.
    fn collect(&self) -> io::Result<Collected> {
        self.uploads.expire(UPLOAD_IDLE)?;
        self.storage.collect(self.options.keep)
    }
}

/// A registry that is being served.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    registry: Arc<Registry>,
    certificates: Option<Arc<Certificates>>,
    stopping: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
    accepting: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Starts serving; returns once connections are accepted.
    ///
    /// # Errors
    /// [`StartError`] names what of the configuration cannot be used.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let registry = Arc::new(Registry::open(&config)?);
        let certificates = config.tls.clone().map(Certificates::open).transpose().map_err(StartError::Tls)?;
        let certificates = certificates.map(Arc::new);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers())
            .max_blocking_threads(64)
            .thread_keep_alive(Duration::from_secs(5))
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let (stopping, stop) = watch::channel(false);
        let listen = |error| StartError::Listen { address: config.listen, error };
        let listener = runtime.block_on(tokio::net::TcpListener::bind(config.listen)).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let setting = serve::Setting {
            registry: registry.clone(),
            certificates: certificates.clone(),
            connection_limit: config.connection_limit,
            stop: stop.clone(),
        };
        let accepting = runtime.spawn(serve::accept(listener, setting));
        if let Some(interval) = config.gc_interval {
            runtime.spawn(collect_regularly(registry.clone(), interval, stop));
        }
        Ok(Self {
            address,
            registry,
            certificates,
            stopping,
            runtime: Some(runtime),
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads certificates and names again; connections go on.
    ///
    /// # Errors
    /// What cannot be used; what was read before stays in force.
    pub fn reload(&self) -> Result<(), String> {
        if let Some(certificates) = &self.certificates {
            certificates.reload()?;
        }
        self.registry.access.as_ref().map_or(Ok(()), Access::reload).map_err(|error| error.to_string())
    }

    /// Collects garbage now. Blocks.
    ///
    /// # Errors
    /// The first thing that could not be read or removed.
    pub fn collect_garbage(&self) -> io::Result<Collected> {
        self.registry.collect()
    }

    /// Stops accepting, waits up to ten seconds for requests under way, and ends. Blocks.
    pub fn stop(mut self) {
        self.stopping.send_replace(true);
        if let (Some(runtime), Some(accepting)) = (&self.runtime, self.accepting.take()) {
            // Past its time, the connections that are left are cut by the drop of the runtime.
            let _ = runtime.block_on(async { tokio::time::timeout(FAREWELL, accepting).await });
        }
    }
}

impl Drop for Server {
    /// Ends at once; connections are cut.
    fn drop(&mut self) {
        self.stopping.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// More threads than processors: a few of them may wait for the disk before uploads know that it is slow.
fn workers() -> usize {
    2 + std::thread::available_parallelism().map_or(2, |count| count.get().min(4))
}

async fn collect_regularly(registry: Arc<Registry>, interval: Duration, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let registry = registry.clone();
        match tokio::task::spawn_blocking(move || registry.collect()).await {
            Ok(Ok(done)) => log::say(&format!(
                "garbage collection: {} manifests, {} links, {} blobs with {} bytes removed",
                done.manifests, done.links, done.blobs, done.bytes
            )),
            Ok(Err(error)) => log::say(&format!("garbage collection: {error}")),
            Err(error) => log::say(&format!("garbage collection: {error}")),
        }
    }
}
