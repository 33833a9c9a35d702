//! What builds keep on the disk: counted, and taken away when somebody asks or when it is too much.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use wharf_api::{BuildCache, BuildCachePruned, Filters};
use wharf_build::solve::{CacheKind, CacheUsage};

use super::Builds;
use super::mirror::MirrorUsage;
use crate::error::{Error, Result};
use crate::events::Kind;
use crate::image::until_time;
use crate::pools::Class;

/// What may go, and how much of it may stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Also what images have too.
    pub all: bool,
    /// Docker's: `until`, `id`, `type`, `description`, `inuse`, `shared`, `private`, `parent`.
    pub filters: Filters,
    /// What was used within so many seconds stays.
    pub unused_for: i64,
    /// So many bytes are never gone below.
    pub reserved: u64,
    /// More than so many bytes may not stay; 0: any number.
    pub most: u64,
    /// So many bytes of the disk are to be free.
    pub free: u64,
}

impl PruneOptions {
    /// Bytes that may stay of `total`; `None`: none of what matches.
    fn keep(&self, total: u64, free: u64) -> Option<u64> {
        if (self.reserved, self.most, self.free) == (0, 0, 0) {
            return None;
        }
        let mut keep = if self.most == 0 { total } else { self.most };
        keep = keep.min(total.saturating_sub(self.free.saturating_sub(free)));
        if self.most == 0 && self.free == 0 {
            // What is only reserved is all that stays, as `--keep-storage` has always meant.
            keep = self.reserved;
        }
        Some(keep.max(self.reserved))
    }

    /// Whether a cache may stay that is not larger than `most`, with `free` bytes of the disk free.
    fn allows(&self, most: u64, free: u64) -> bool {
        let bounded = (self.reserved, self.most, self.free) != (0, 0, 0);
        // What is only reserved is all that stays.
        let stays = if self.most == 0 && self.free == 0 { self.reserved } else { self.most };
        bounded && free >= self.free && (most <= stays || (self.most == 0 && self.free != 0))
    }

    /// Whether nothing that is kept is of what it is about.
    fn spares(&self, kept: &[CacheUsage]) -> bool {
        let now = Timestamp::now().as_second();
        // A rule that makes no sense is told of where it is applied.
        self.until().is_ok_and(|until| !kept.iter().any(|usage| self.wants(usage, until, now)))
    }

    /// What was used after that moment stays, in seconds since 1970.
    fn until(&self) -> Result<Option<i64>> {
        let given = ["until", "unused-for"].into_iter().flat_map(|key| self.filters.get(key));
        let first = given.map(until_time).collect::<Result<Vec<Timestamp>>>()?.into_iter().min();
        Ok(first.map(Timestamp::as_second))
    }

    fn wants(&self, usage: &CacheUsage, until: Option<i64>, now: i64) -> bool {
        let (filters, used) = (&self.filters, usage.used.as_second());
        let is =
            |key: &str, value: &str| !filters.contains(key) || filters.get(key).any(|wanted| wanted == value);
        let flag = |key: &str, value: bool| {
            !filters.contains(key) || filters.get(key).any(|wanted| matches!(wanted, "false" | "0") != value)
        };
        let about = |text: &str| usage.description.contains(text);
        !usage.in_use
            && (self.all || !usage.shared)
            && until.is_none_or(|until| used <= until)
            && (self.unused_for == 0 || now - used >= self.unused_for)
            && (!filters.contains("id") || filters.get("id").any(|id| usage.id.starts_with(id)))
            && (!filters.contains("description") || filters.get("description").any(about))
            && (!filters.contains("parent")
                || filters.get("parent").any(|id| usage.parents.iter().any(|one| one == id)))
            && is("type", kind(usage))
            && flag("inuse", usage.in_use)
            && flag("shared", usage.shared)
            && flag("private", !usage.shared)
    }
}

const KNOWN: [&str; 9] =
    ["until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private"];

impl Builds {
    /// What is kept, as `system df` tells it.
    pub async fn usage(self: &Arc<Self>) -> Result<Vec<BuildCache>> {
        let builds = self.clone();
        let usage = self.containers.pools.run(Class::Files, move || Ok(builds.usage_now())).await?;
        Ok(usage.iter().map(document).collect())
    }

    /// Takes away what `options` say; tells of it as `/build/prune` does.
    ///
    /// # Errors
    /// Filters that make no sense; when the disk fails.
    pub async fn prune(self: &Arc<Self>, options: PruneOptions) -> Result<BuildCachePruned> {
        options.filters.check(&KNOWN).map_err(|error| Error::invalid(error.to_string()))?;
        let builds = self.clone();
        let gone = self.containers.pools.run(Class::Files, move || builds.prune_now(&options)).await?;
        let reclaimed: u64 = gone.iter().map(own).sum();
        let told = [("reclaimed".to_owned(), reclaimed.to_string())].into();
        self.containers.events.emit(Kind::Builder, "prune", "", told);
        Ok(BuildCachePruned {
            caches_deleted: (!gone.is_empty()).then(|| gone.into_iter().map(|usage| usage.id).collect()),
            space_reclaimed: reclaimed,
        })
    }

    /// What is kept, the longest unused first. Sleeps.
    #[must_use]
    pub fn usage_now(&self) -> Vec<CacheUsage> {
        self.with_mirrors(self.cache.usage())
    }

    fn with_mirrors(&self, mut usage: Vec<CacheUsage>) -> Vec<CacheUsage> {
        usage.extend(self.mirrors.usage().into_iter().map(mirrored));
        usage.sort_by_key(|usage| usage.used);
        usage
    }

    /// Takes away what `options` say, the longest unused first, and nothing that stands below something that stays.
    /// Sleeps.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn prune_now(&self, options: &PruneOptions) -> Result<Vec<CacheUsage>> {
        self.prune_of(&self.usage_now(), options)
    }

    fn prune_of(&self, usage: &[CacheUsage], options: &PruneOptions) -> Result<Vec<CacheUsage>> {
        let (until, now) = (options.until()?, Timestamp::now().as_second());
        let mut total: u64 = usage.iter().map(own).sum();
        let keep = options.keep(total, self.free());
        let mut children: HashMap<&str, usize> = HashMap::new();
        for parent in usage.iter().flat_map(|usage| &usage.parents) {
            *children.entry(parent).or_default() += 1;
        }
        let mut left: Vec<&CacheUsage> =
            usage.iter().filter(|usage| options.wants(usage, until, now)).collect();
        let mut chosen: HashSet<String> = HashSet::new();
        while keep.is_none_or(|keep| total > keep) {
            // Something is longest unused of those that nothing stands upon; its parents may be next.
            let free = |usage: &&CacheUsage| children.get(usage.id.as_str()).is_none_or(|count| *count == 0);
            let Some(at) = left.iter().position(free) else { break };
            let usage = left.remove(at);
            for parent in &usage.parents {
                children.entry(parent).and_modify(|count| *count -= 1);
            }
            total = total.saturating_sub(own(usage));
            chosen.insert(usage.id.clone());
        }
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let mut gone = self.cache.prune(|usage| chosen.contains(&usage.id))?;
        gone.extend(self.mirrors.prune(|usage| chosen.contains(&usage.id)).into_iter().map(mirrored));
        Ok(gone)
    }

    /// Brings the cache below its ceilings. Called before a build's end, so that no build leaves more than it may. Nothing
    /// is measured as long as no rule needs to know.
    pub(super) fn reclaim(&self) {
        let policy = self.config.live(|now| now.build_cache.clone());
        if !policy.enabled {
            return;
        }
        let (size, free) = self.disk();
        let mut unmeasured = None;
        let mut measured: Option<Vec<CacheUsage>> = None;
        for rule in policy.rules(size) {
            let known = unmeasured.get_or_insert_with(|| self.with_mirrors(self.cache.unmeasured()));
            // More than what is used of the disk it cannot take, but for files with holes. An unknown disk has no size.
            let fits = size > 0 && rule.allows(size.saturating_sub(free), free);
            if fits || rule.spares(known) {
                continue;
            }
            match self.prune_of(measured.get_or_insert_with(|| self.usage_now()), &rule) {
                Ok(gone) if !gone.is_empty() => {
                    tracing::info!("build cache: {} records went to make room", gone.len());
                    (unmeasured, measured) = (None, None);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("build cache: {error}"),
            }
        }
    }

    fn free(&self) -> u64 {
        self.disk().1
    }

    /// The size of the disk that builds are on, and what is free of it, bytes.
    fn disk(&self) -> (u64, u64) {
        let stat = rustix::fs::statvfs(&self.config.data_root);
        stat.map_or((0, u64::MAX), |stat| (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
    }
}

/// What its end frees, bytes.
fn own(usage: &CacheUsage) -> u64 {
    if usage.shared { 0 } else { usage.size }
}

fn mirrored(usage: MirrorUsage) -> CacheUsage {
    CacheUsage {
        id: usage.id,
        kind: CacheKind::Local,
        parents: Vec::new(),
        description: usage.description,
        size: usage.size,
        created: usage.created,
        used: usage.used,
        uses: usage.uses,
        in_use: false,
        shared: false,
    }
}

/// BuildKit's word for what a record is.
#[must_use]
pub fn kind(usage: &CacheUsage) -> &'static str {
    match usage.kind {
        CacheKind::Regular => "regular",
        CacheKind::Mount => "exec.cachemount",
        CacheKind::Local => "source.local",
    }
}

fn document(usage: &CacheUsage) -> BuildCache {
    BuildCache {
        id: usage.id.clone(),
        parents: (!usage.parents.is_empty()).then(|| usage.parents.clone()),
        r#type: kind(usage).to_owned(),
        description: usage.description.clone(),
        in_use: usage.in_use,
        shared: usage.shared,
        size: i64::try_from(usage.size).unwrap_or(i64::MAX),
        created_at: usage.created.to_string(),
        last_used_at: Some(usage.used.to_string()),
        usage_count: i64::try_from(usage.uses).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_may_stay() {
        let of = |reserved, most, free| PruneOptions { reserved, most, free, ..PruneOptions::default() };
        assert_eq!(of(0, 0, 0).keep(100, 5), None);
        assert_eq!(of(30, 0, 0).keep(100, 5), Some(30));
        assert_eq!(of(0, 40, 0).keep(100, 5), Some(40));
        assert_eq!(of(10, 40, 25).keep(100, 5), Some(40));
        assert_eq!(of(10, 90, 25).keep(100, 5), Some(80));
        assert_eq!(of(90, 95, 25).keep(100, 5), Some(90));
        assert_eq!(of(0, 0, 4).keep(100, 5), Some(100));
    }

    #[test]
    fn what_may_stay_unmeasured_may_stay_measured() {
        let of = |reserved, most, free| PruneOptions { reserved, most, free, ..PruneOptions::default() };
        assert!(of(10, 100, 5).allows(100, 5) && of(0, 0, 4).allows(1000, 5));
        assert!(!of(0, 0, 0).allows(0, 5));
        for (reserved, most, free) in [
            (0, 0, 0),
            (30, 0, 0),
            (0, 40, 0),
            (10, 40, 25),
            (10, 90, 25),
            (90, 95, 25),
            (0, 0, 4),
            (0, 100, 3),
        ] {
            let options = of(reserved, most, free);
            for bound in [5, 30, 40, 95, 100, 200] {
                let stays = |total| options.keep(total, 5).is_some_and(|keep| keep >= total);
                assert!(!options.allows(bound, 5) || (0..=bound).all(stays), "{options:?} {bound}");
            }
        }
    }
}
