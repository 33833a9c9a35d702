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

/// Only the log's level can change while the daemon runs; the rest takes a restart, which containers do not notice.
async fn apply(settings: &Settings, engine: &Engine, level: &Level) {
    level.set(&settings.log_level);
    tracing::info!("configuration read again; log level {}", settings.log_level);
    let info = match engine.system.info().await {
        Ok(info) => info,
        Err(error) => return tracing::error!("reload: {error}"),
    };
    let attributes = BTreeMap::from([
        ("name".to_owned(), info.name),
        ("debug".to_owned(), settings.engine.debug.to_string()),
        ("log-level".to_owned(), settings.log_level.clone()),
    ]);
    engine.events.emit(Kind::Daemon, "reload", &info.id, attributes);
}
