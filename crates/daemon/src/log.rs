//! The daemon's own log: lines on standard error, at a level that can be changed while it runs.

use std::sync::Arc;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Changes the level.
#[derive(Clone)]
pub(crate) struct Level {
    set: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for Level {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Level")
    }
}

impl Level {
    /// `debug`, `info`, `warn` or `error`.
    pub(crate) fn set(&self, level: &str) {
        (self.set)(level);
    }
}

/// Begins to log.
pub(crate) fn begin(level: &str) -> Level {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let begun = Registry::default().with(lines.with_filter(filter)).try_init();
    if begun.is_err() {
        // A second daemon in one process, as in tests: the first one's log goes on.
        tracing::debug!("the log has begun already");
    }
    Level {
        set: Arc::new(move |level| {
            if let Err(error) = handle.reload(EnvFilter::new(level)) {
                tracing::warn!("change the log level: {error}");
            }
        }),
    }
}
