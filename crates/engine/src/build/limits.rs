//! How much builds may keep on the disk: `builder.gc` of the daemon's settings.

use wharf_api::Filters;

use super::prune::PruneOptions;

/// What a person has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// Whether anything goes by itself.
    pub enabled: bool,
    /// Bytes that are never gone below; `None`: a tenth of the disk.
    pub reserved: Option<u64>,
    /// Bytes that may be kept; `None`: six tenths of the disk.
    pub most: Option<u64>,
    /// Bytes of the disk that are to be free; `None`: two tenths of it.
    pub free: Option<u64>,
    /// Rules in place of the usual ones; they are gone through in their order.
    pub rules: Vec<PruneOptions>,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self { enabled: true, reserved: None, most: None, free: None, rules: Vec::new() }
    }
}

/// Directories of clients and caches of programs go first, when they were not used for two days.
const SHORT: i64 = 48 * 3600;
/// How much of them stays anyway, bytes.
const SHORT_BYTES: u64 = 512 << 20;
/// Anything may go that was not used for sixty days.
const LONG: i64 = 60 * 24 * 3600;

impl CachePolicy {
    /// The rules on a disk of `size` bytes, BuildKit's own where none are set.
    #[must_use]
    pub fn rules(&self, size: u64) -> Vec<PruneOptions> {
        if !self.rules.is_empty() {
            return self.rules.clone();
        }
        let mut light = Filters::default();
        for kind in ["source.local", "exec.cachemount"] {
            light.add("type", kind);
        }
        let most = self.most.unwrap_or(size / 10 * 6);
        let caps = PruneOptions {
            reserved: self.reserved.unwrap_or(size / 10).min(most),
            most,
            free: self.free.unwrap_or(size / 10 * 2),
            ..PruneOptions::default()
        };
        vec![
            PruneOptions { filters: light, unused_for: SHORT, most: SHORT_BYTES, ..PruneOptions::default() },
            PruneOptions { unused_for: LONG, ..caps.clone() },
            caps.clone(),
            PruneOptions { all: true, ..caps },
        ]
    }
}
