//! What builds keep on the disk, and taking it away.

use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::{PruneRequest, UsageRecord};
use jiff::Timestamp;
use tonic::Status;
use wharf_build::solve::CacheUsage;
use wharf_engine::build::mirror::MirrorUsage;

use super::BuildKit;
use super::progress::moment;

/// The kinds of records, as they are shown.
const LOCAL: &str = "source.local";
const MOUNT: &str = "exec.cachemount";

fn cached(record: CacheUsage) -> UsageRecord {
    let kind = wharf_engine::build::cache_kind(&record);
    UsageRecord {
        mutable: kind == MOUNT,
        in_use: record.in_use,
        shared: record.shared,
        parents: record.parents,
        id: record.id,
        size: i64::try_from(record.size).unwrap_or(i64::MAX),
        created_at: Some(moment(record.created)),
        last_used_at: Some(moment(record.used)),
        usage_count: i64::try_from(record.uses).unwrap_or(i64::MAX),
        description: record.description,
        record_type: kind.to_owned(),
        ..UsageRecord::default()
    }
}

fn mirrored(record: MirrorUsage) -> UsageRecord {
    UsageRecord {
        id: record.id,
        mutable: true,
        size: i64::try_from(record.size).unwrap_or(i64::MAX),
        created_at: Some(moment(record.created)),
        last_used_at: Some(moment(record.used)),
        usage_count: i64::try_from(record.uses).unwrap_or(i64::MAX),
        description: record.description,
        record_type: LOCAL.to_owned(),
        ..UsageRecord::default()
    }
}

/// A filter as BuildKit's clients write it: `type==regular`, `id~=^ab`, `description!=x`, several joined by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter(Vec<(String, Operator, String)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    Contains,
    Present,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Status> {
        let part = |part: &str| {
            let found = [("==", Operator::Is), ("!=", Operator::IsNot), ("~=", Operator::Contains)];
            let split = found.iter().find_map(|(sign, operator)| Some((part.split_once(sign)?, *operator)));
            let ((field, value), operator) = split.unwrap_or(((part, ""), Operator::Present));
            let field = field.trim().to_lowercase();
            let known = [
                "id",
                "parents",
                "description",
                "type",
                "inuse",
                "mutable",
                "immutable",
                "shared",
                "private",
            ];
            if !known.contains(&field.as_str()) {
                return Err(Status::unknown(format!("invalid filter {part:?}")));
            }
            Ok((field, operator, value.trim().trim_matches('"').to_owned()))
        };
        text.split(',').map(part).collect::<Result<_, _>>().map(Self)
    }

    fn matches(&self, record: &UsageRecord) -> bool {
        self.0.iter().all(|(field, operator, value)| {
            let flag = |set: bool| if set { "true".to_owned() } else { String::new() };
            let has = match field.as_str() {
                "id" => record.id.clone(),
                "description" => record.description.clone(),
                "type" => record.record_type.clone(),
                "inuse" => flag(record.in_use),
                "mutable" => flag(record.mutable),
                "immutable" => flag(!record.mutable),
                "shared" => flag(record.shared),
                "private" => flag(!record.shared),
                _ => String::new(),
            };
            match operator {
                Operator::Is => has == *value,
                Operator::IsNot => has != *value,
                Operator::Contains => has.contains(value.trim_start_matches('^').trim_end_matches('$')),
                Operator::Present => !has.is_empty(),
            }
        })
    }
}

fn filters(texts: &[String]) -> Result<Vec<Filter>, Status> {
    texts.iter().filter(|text| !text.is_empty()).map(|text| Filter::parse(text)).collect()
}

fn wanted(filters: &[Filter], record: &UsageRecord) -> bool {
    filters.is_empty() || filters.iter().any(|filter| filter.matches(record))
}

/// All records that filters name.
pub(super) async fn records(state: &Arc<BuildKit>, given: &[String]) -> Result<Vec<UsageRecord>, Status> {
    let filters = filters(given)?;
    let state = state.clone();
    let found = tokio::task::spawn_blocking(move || {
        let steps = state.engine.builds.cache().usage().into_iter().map(cached);
        steps.chain(state.mirrors.usage().into_iter().map(mirrored)).collect::<Vec<_>>()
    });
    let found = found.await.map_err(|error| Status::internal(error.to_string()))?;
    Ok(found.into_iter().filter(|record| wanted(&filters, record)).collect())
}

/// What a request spares, for a set of records with their sizes: those used last within the time, and as many of the rest
/// as the space allows.
fn spared(request: &PruneRequest, record: &UsageRecord, total: i64, now: Timestamp) -> bool {
    let used = record.last_used_at.as_ref().map_or(0, |time| time.seconds);
    let age = now.as_second().saturating_sub(used);
    let recent = request.keep_duration > 0 && age < request.keep_duration / 1_000_000_000;
    let reserved = request.reserved_space > 0 && total <= request.reserved_space;
    let within = request.max_used_space > 0 && total <= request.max_used_space;
    recent || reserved || within
}

/// Removes what a request names; returns it.
pub(super) async fn prune(state: &Arc<BuildKit>, request: PruneRequest) -> Result<Vec<UsageRecord>, Status> {
    let filters = filters(&request.filter)?;
    let mut all = records(state, &[]).await?;
    // Those used longest ago go first.
    all.sort_by_key(|record| record.last_used_at.as_ref().map_or(0, |time| time.seconds));
    let (mut total, now) = (all.iter().map(|record| record.size).sum::<i64>(), Timestamp::now());
    let mut chosen = std::collections::HashSet::new();
    for record in &all {
        let is_plain = request.all || record.record_type != "internal";
        if is_plain && wanted(&filters, record) && !spared(&request, record, total, now) {
            total -= record.size;
            chosen.insert(record.id.clone());
        }
    }
    let state = state.clone();
    let removed = tokio::task::spawn_blocking(move || {
        let steps = state.engine.builds.cache().prune(|record| chosen.contains(&record.id))?;
        let mirrors = state.mirrors.prune(|record| chosen.contains(&record.id));
        Ok::<_, wharf_engine::Error>(
            steps.into_iter().map(cached).chain(mirrors.into_iter().map(mirrored)).collect::<Vec<_>>(),
        )
    });
    let removed = removed.await.map_err(|error| Status::internal(error.to_string()))?;
    removed.map_err(|error| super::error::plain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: &str, id: &str) -> UsageRecord {
        UsageRecord { record_type: kind.to_owned(), id: id.to_owned(), ..UsageRecord::default() }
    }

    #[test]
    fn filters_are_read() {
        let filter = Filter::parse("type==regular,id~=^ab").unwrap();
        assert!(filter.matches(&record("regular", "abc")));
        assert!(!filter.matches(&record("source.local", "abc")));
        assert!(
            Filter::parse("mutable")
                .unwrap()
                .matches(&UsageRecord { mutable: true, ..UsageRecord::default() })
        );
        assert!(Filter::parse("colour==red").is_err());
    }

    #[test]
    fn what_was_just_used_is_spared() {
        let now = Timestamp::now();
        let used = UsageRecord { last_used_at: Some(moment(now)), ..record("regular", "a") };
        let request = PruneRequest { keep_duration: 3_600_000_000_000, ..PruneRequest::default() };
        assert!(spared(&request, &used, 10, now));
        assert!(!spared(&PruneRequest::default(), &used, 10, now));
        assert!(spared(&PruneRequest { max_used_space: 10, ..PruneRequest::default() }, &used, 10, now));
    }
}
