//! SIGHUP: the configuration file is read again, and what can change while the daemon runs changes.

use std::collections::BTreeMap;

use wharf_engine::Engine;
use wharf_engine::events::Kind;

use crate::config::{self, Settings};
use crate::listen::notify;
use crate::log::Level;

/// Reads the configuration again. A bad one is told and changes nothing.
pub(crate) async fn run(arguments: &[String], engine: &Engine, level: &Level) {
    notify("RELOADING=1");
    match config::reload(arguments) {
        Ok(settings) => apply(&settings, engine, level).await,
        Err(error) => tracing::error!("reload: {error}"),
    }
    notify("READY=1");
}

/// Takes what can change while the daemon runs; the rest takes a restart, which containers do not notice.
async fn apply(settings: &Settings, engine: &Engine, level: &Level) {
    level.set(&settings.log_level);
    engine.config.reload(&settings.engine);
    if let Err(error) = engine.registries.configure(&settings.engine) {
        tracing::error!("reload: {error}");
    }
    tracing::info!("configuration read again; log level {}", settings.log_level);
    let info = match engine.system.info().await {
        Ok(info) => info,
        Err(error) => return tracing::error!("reload: {error}"),
    };
    engine.events.emit(Kind::Daemon, "reload", &info.id, told(settings, info.name));
}

/// What the event tells: the settings that a reload takes, by their names in the file, as dockerd writes them.
fn told(settings: &Settings, name: String) -> BTreeMap<String, String> {
    let engine = &settings.engine;
    let list = |list: &[String]| serde_json::json!(list).to_string();
    let runtimes: Vec<&str> = engine.runtimes.keys().map(String::as_str).collect();
    let told = [
        ("debug", engine.debug.to_string()),
        ("default-ipc-mode", engine.default_ipc.clone()),
        ("default-runtime", engine.default_runtime.clone()),
        ("default-shm-size", engine.shm_size.to_string()),
        ("insecure-registries", list(&engine.insecure_registries)),
        ("labels", list(&engine.labels)),
        ("log-level", settings.log_level.clone()),
        ("max-concurrent-downloads", engine.registry.downloads.to_string()),
        ("max-concurrent-uploads", engine.registry.uploads.to_string()),
        ("max-download-attempts", engine.registry.attempts.to_string()),
        ("name", name),
        ("registry-mirrors", list(&engine.registry_mirrors)),
        ("runtimes", runtimes.join(" ")),
    ];
    told.map(|(key, value)| (key.to_owned(), value)).into()
}
