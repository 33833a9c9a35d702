//! Builds that were: the last of them, for who asks what became of one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest,
    UpdateBuildHistoryRequest,
};
use jiff::Timestamp;
use tokio::sync::broadcast;
use tonic::Status;

use super::error;
use super::export::Response;
use super::progress::moment;
use super::solve::Solving;

/// The builds that are remembered, at most, beside those that are kept on purpose.
const MOST: usize = 50;

/// Events that wait for who listens.
const WAITING: usize = 64;

/// Builds that were.
#[derive(Debug)]
pub(super) struct History {
    records: Mutex<VecDeque<BuildHistoryRecord>>,
    news: broadcast::Sender<BuildHistoryEvent>,
}

impl Default for History {
    fn default() -> Self {
        Self { records: Mutex::default(), news: broadcast::channel(WAITING).0 }
    }
}

/// Whether an event is about a build.
pub(super) fn is_of(event: &BuildHistoryEvent, name: &str) -> bool {
    event.record.as_ref().is_some_and(|record| record.r#ref == name)
}

fn event(kind: BuildHistoryEventType, record: BuildHistoryRecord) -> BuildHistoryEvent {
    BuildHistoryEvent { r#type: kind.into(), record: Some(record) }
}

impl History {
    fn lock(&self) -> MutexGuard<'_, VecDeque<BuildHistoryRecord>> {
        // Records are put in and taken out whole.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A build is over.
    pub(super) fn ended(&self, solving: &Solving, done: &Result<Response, Status>) {
        if solving.request.internal {
            return;
        }
        let counts = solving.progress.counts();
        let mut attributes = solving.attributes();
        // Arguments may hold what is nobody else's business.
        attributes.retain(|name, _| !name.starts_with("build-arg:"));
        let record = BuildHistoryRecord {
            r#ref: solving.request.r#ref.clone(),
            frontend: solving.request.frontend.clone(),
            frontend_attrs: attributes,
            exporters: solving.request.exporters.clone(),
            error: done.as_ref().err().map(error::message),
            created_at: Some(moment(solving.began)),
            completed_at: Some(moment(Timestamp::now())),
            exporter_response: done.clone().unwrap_or_default(),
            num_cached_steps: counts.cached,
            num_total_steps: counts.total,
            num_completed_steps: counts.completed,
            num_warnings: counts.warnings,
            ..BuildHistoryRecord::default()
        };
        let mut records = self.lock();
        records.push_back(record.clone());
        if records.iter().filter(|record| !record.pinned).count() > MOST
            && let Some(oldest) = records.iter().position(|record| !record.pinned)
        {
            records.remove(oldest);
        }
        drop(records);
        // Nobody has to listen.
        drop(self.news.send(event(BuildHistoryEventType::Complete, record)));
    }

    /// What is known, and what comes.
    pub(super) fn listen(
        &self,
        request: &BuildHistoryRequest,
    ) -> (Vec<BuildHistoryEvent>, broadcast::Receiver<BuildHistoryEvent>) {
        let news = self.news.subscribe();
        if request.active_only {
            return (Vec::new(), news);
        }
        let records = self.lock();
        let wanted = |record: &&BuildHistoryRecord| request.r#ref.is_empty() || record.r#ref == request.r#ref;
        let mut known: Vec<BuildHistoryEvent> = records
            .iter()
            .filter(wanted)
            .map(|record| event(BuildHistoryEventType::Complete, record.clone()))
            .collect();
        // The newest are those that are asked for.
        if let Ok(limit) = usize::try_from(request.limit)
            && limit > 0
            && known.len() > limit
        {
            known.drain(..known.len() - limit);
        }
        (known, news)
    }

    /// Keeps a record on purpose, or removes one.
    pub(super) fn update(&self, request: &UpdateBuildHistoryRequest) -> Result<(), Status> {
        let mut records = self.lock();
        let at = records.iter().position(|record| record.r#ref == request.r#ref);
        let at =
            at.ok_or_else(|| Status::not_found(format!("no build record found for ref {}", request.r#ref)))?;
        if request.delete {
            if let Some(record) = records.remove(at) {
                drop(records);
                drop(self.news.send(event(BuildHistoryEventType::Deleted, record)));
            }
        } else if !request.finalize {
            records[at].pinned = request.pinned;
        }
        Ok(())
    }
}
