//! Start-up and the end: lock, engine, sockets, signals.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use wharf_engine::Engine;
use wharf_engine::system::System;

use crate::config::Settings;
use crate::listen::{self, Listener, notify};
use crate::log::{self, Level};
use crate::pidfile::PidFile;
use crate::reload;
use crate::server::{self, App};

/// Threads that serve requests. They never sleep in the kernel.
const WORKERS: usize = 2;
/// Threads that may sleep, at most; the engine bounds each class of work below this.
const BLOCKING: usize = 256;
/// When memory is given back that a start or a busy time has left.
const AFTER_START: Duration = Duration::from_secs(1);
const SLIMMING: Duration = Duration::from_secs(30);
/// How long requests under way may take after the daemon was asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the daemon until a signal ends it.
pub(crate) fn run(settings: Settings, arguments: &[String]) -> Result<(), String> {
    let level = log::begin(&settings.log_level);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    make_root(&settings.engine.data_root, 0o710)?;
    make_root(&settings.engine.exec_root, 0o711)?;
    let _pid_file = PidFile::take(&settings.pid_file)?;
    System::before_threads();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("wharf")
        .enable_all()
        .build()
        .map_err(|error| format!("start threads: {error}"))?;
    let ended = runtime.block_on(serve(settings, arguments, &level));
    // Work that sleeps in the kernel must not hold up the end: the engine's records are on disk.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

fn make_root(path: &Path, mode: u32) -> Result<(), String> {
    let make = || {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make().map_err(|error| format!("make {}: {error}", path.display()))
}

async fn serve(settings: Settings, arguments: &[String], level: &Level) -> Result<(), String> {
    let began = Instant::now();
    let mut signals = Signals::new().map_err(|error| format!("watch signals: {error}"))?;
    let listeners = bind_all(&settings)?;
    let engine = Engine::open(settings.engine.clone()).await.map_err(|error| error.to_string())?;
    let app = App::new(engine.clone(), settings.oldest).map_err(|error| error.to_string())?;
    let app = Arc::new(app);
    let (close, closing) = watch::channel(false);
    let serving: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(server::listen(listener, app.clone(), closing.clone())))
        .collect();
    tracing::info!("ready after {} ms", began.elapsed().as_millis());
    notify(&format!("READY=1\nMAINPID={}", std::process::id()));
    tokio::spawn(slim(engine.clone()));
    while let Signal::Reload = signals.next().await {
        reload::run(arguments, &engine, level).await;
    }
    tracing::info!("ending; containers go on");
    notify("STOPPING=1");
    close.send_replace(true);
    drop(closing);
    for task in serving {
        // A listener's loop only ends.
        let _ = task.await;
    }
    // Every connection holds a receiver until its last request is answered.
    let _ = tokio::time::timeout(GRACE, close.closed()).await;
    engine.close().await;
    remove_sockets(&settings);
    Ok(())
}

/// Keeps the daemon small: once after the start, then at times.
async fn slim(engine: Arc<Engine>) {
    let mut pause = AFTER_START;
    loop {
        tokio::time::sleep(pause).await;
        pause = SLIMMING;
        let system = engine.system.clone();
        // What this turn could not do, the next one does.
        let _ = tokio::task::spawn_blocking(move || system.slim()).await;
    }
}

fn bind_all(settings: &Settings) -> Result<Vec<Listener>, String> {
    let tls = settings.tls.as_ref().map(listen::acceptor).transpose()?;
    let mut listeners = Vec::new();
    for address in &settings.addresses {
        let bound = listen::bind(address, &settings.access, tls.as_ref());
        listeners.extend(bound.map_err(|error| format!("listen on {address}: {error}"))?);
        tracing::info!("listening on {address}");
        if let (listen::Address::Tcp(..), None) = (address, &tls) {
            tracing::warn!(
                "{address} is open to whoever reaches it, which is as good as root: use TLS (--tlsverify)"
            );
        }
    }
    Ok(listeners)
}

/// Removes the sockets that this daemon made, so that clients see at once that nobody is there.
fn remove_sockets(settings: &Settings) {
    for address in &settings.addresses {
        if let listen::Address::Unix(path) = address
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!("remove {}: {error}", path.display());
        }
    }
}

/// What the daemon is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Reload,
    End,
}

struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
        }
    }
}
