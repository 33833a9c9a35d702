//! Builds that were: the last of them, with what they said, for who asks what became of one. They outlive the daemon.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, StatusResponse,
    UpdateBuildHistoryRequest,
};
use jiff::Timestamp;
use prost::Message;
use tokio::sync::broadcast;
use tonic::Status;
use wharf_engine::{Error, Result as EngineResult};
use wharf_oci::Digest;

use super::attachment::{self, Account};
use super::error;
use super::export::Response;
use super::progress::moment;
use super::solve::Solving;

/// The builds that are remembered, at most, beside those that are kept on purpose; and those.
const MOST: usize = 50;
const MOST_PINNED: usize = 500;
/// What one build said that is kept, in bytes.
const LOG: usize = 4 << 20;
/// The largest record, in bytes.
const LARGEST: u64 = 1 << 20;
/// What the names of files end with.
const RECORD: &str = "record";
const SAID: &str = "log";
const ATTACHED: &str = "attached";
/// What is added to the names of those that are to go.
const GONE: &str = "gone";

/// Events that wait for who listens.
const WAITING: usize = 64;

/// Builds that were.
#[derive(Debug)]
pub(super) struct History {
    /// Where they are kept: for each a record and what was said.
    directory: PathBuf,
    records: Mutex<VecDeque<BuildHistoryRecord>>,
    /// Those that are under way.
    running: Mutex<HashMap<String, BuildHistoryRecord>>,
    news: broadcast::Sender<BuildHistoryEvent>,
}

/// Whether an event is about a build.
pub(super) fn is_of(event: &BuildHistoryEvent, name: &str) -> bool {
    event.record.as_ref().is_some_and(|record| record.r#ref == name)
}

fn event(kind: BuildHistoryEventType, record: BuildHistoryRecord) -> BuildHistoryEvent {
    BuildHistoryEvent { r#type: kind.into(), record: Some(record) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Records are put in and taken out whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// The builds that are kept in a directory.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub(super) fn open(directory: PathBuf) -> EngineResult<Self> {
        let failed = |error: std::io::Error| Error::io("read build history", &error);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|end| end == GONE) {
                drop(std::fs::remove_file(&path));
            }
            if path.extension().is_none_or(|end| end != RECORD) {
                continue;
            }
            let small = path.metadata().is_ok_and(|stat| stat.len() <= LARGEST);
            let bytes = if small { std::fs::read(&path).ok() } else { None };
            match bytes.and_then(|bytes| BuildHistoryRecord::decode(bytes.as_slice()).ok()) {
                Some(record) => records.push(record),
                // What was half written when the machine went down.
                None => drop(std::fs::remove_file(&path)),
            }
        }
        let time =
            |record: &BuildHistoryRecord| record.completed_at.as_ref().map(|time| (time.seconds, time.nanos));
        records.sort_by_key(time);
        let (records, running) = (Mutex::new(records.into()), Mutex::default());
        Ok(Self { directory, records, running, news: broadcast::channel(WAITING).0 })
    }

    /// The file of a build, whatever its client calls it.
    fn file(&self, name: &str, end: &str) -> PathBuf {
        self.directory.join(format!("{}.{end}", Digest::of(name.as_bytes()).hex()))
    }

    /// A build begins.
    pub(super) fn began(&self, solving: &Solving) {
        if solving.request.internal {
            return;
        }
        let record = record(solving);
        lock(&self.running).insert(record.r#ref.clone(), record.clone());
        self.tell(BuildHistoryEventType::Started, record);
    }

    /// A build is over.
    pub(super) fn ended(&self, solving: &Solving, done: &Result<Response, Status>) {
        if solving.request.internal {
            return;
        }
        let counts = solving.progress.counts();
        let accounts = solving.accounts();
        let exported = done.as_ref().ok().and_then(|told| attachment::exported(solving, told));
        let (image, manifest) = exported.unzip();
        let (result, results) = attachment::results(&accounts, image.as_ref());
        let record = BuildHistoryRecord {
            result,
            results,
            error: done.as_ref().err().map(error::message),
            completed_at: Some(moment(Timestamp::now())),
            exporter_response: done.clone().unwrap_or_default(),
            num_cached_steps: counts.cached,
            num_total_steps: counts.total,
            num_completed_steps: counts.completed,
            num_warnings: counts.warnings,
            ..record(solving)
        };
        lock(&self.running).remove(&record.r#ref);
        let said = solving.progress.written(LOG);
        let mut records = lock(&self.records);
        // A name may come again: the build that has it is the last.
        records.retain(|other| other.r#ref != record.r#ref);
        records.push_back(record.clone());
        let mut gone = Vec::new();
        for (pinned, most) in [(false, MOST), (true, MOST_PINNED)] {
            while records.iter().filter(|record| record.pinned == pinned).count() > most
                && let Some(oldest) = records.iter().position(|record| record.pinned == pinned)
            {
                gone.extend(records.remove(oldest));
            }
        }
        // Written under the lock: a removal comes after.
        if let Err(error) = self.attach(&accounts, manifest).and_then(|()| self.write(&record, Some(&said))) {
            tracing::warn!("keep the record of a build: {error}");
        }
        let gone: Vec<OsString> = gone.iter().flat_map(|record| self.erase(record, &records)).collect();
        drop(records);
        remove_later(gone);
        self.tell(BuildHistoryEventType::Complete, record);
    }

    fn tell(&self, kind: BuildHistoryEventType, record: BuildHistoryRecord) {
        // Nobody has to listen.
        drop(self.news.send(event(kind, record)));
    }

    fn write(&self, record: &BuildHistoryRecord, said: Option<&[u8]>) -> std::io::Result<()> {
        if let Some(said) = said {
            std::fs::write(self.file(&record.r#ref, SAID), said)?;
        }
        let (new, file) = (self.file(&record.r#ref, "new"), self.file(&record.r#ref, RECORD));
        std::fs::write(&new, record.encode_to_vec())?;
        std::fs::rename(new, file)
    }

    /// Keeps what goes with a record.
    fn attach(&self, accounts: &[Account], manifest: Option<(Digest, Vec<u8>)>) -> std::io::Result<()> {
        let write = |digest: &Digest, document: &[u8]| std::fs::write(self.attached(digest), document);
        accounts.iter().try_for_each(|account| write(&account.digest(), &account.document))?;
        manifest.map_or(Ok(()), |(digest, document)| write(&digest, &document))
    }

    /// The file of what goes with a record.
    fn attached(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{}.{ATTACHED}", digest.hex()))
    }

    /// What goes with a record, by its digest.
    pub(super) fn attachment(&self, digest: &Digest) -> Option<Vec<u8>> {
        std::fs::read(self.attached(digest)).ok()
    }

    /// Gives a record's files names under which nobody finds them, and returns those; what goes with others that are left,
    /// as the manifest of an image made twice, stays.
    fn erase(&self, record: &BuildHistoryRecord, left: &VecDeque<BuildHistoryRecord>) -> Vec<OsString> {
        let files = [RECORD, SAID].map(|end| self.file(&record.r#ref, end));
        let kept: HashSet<Digest> = left.iter().flat_map(attachment::of).collect();
        let gone: HashSet<Digest> = attachment::of(record).filter(|digest| !kept.contains(digest)).collect();
        let attached = gone.iter().map(|digest| self.attached(digest));
        let mut renamed = Vec::new();
        for file in files.into_iter().chain(attached) {
            let mut name = file.clone().into_os_string();
            name.push(format!(".{GONE}"));
            match std::fs::rename(&file, &name) {
                Ok(()) => renamed.push(name),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!("remove the record of a build: {error}"),
            }
        }
        renamed
    }

    /// What a build that is over said; `None`: there was none of that name.
    pub(super) fn said(&self, name: &str) -> Option<Vec<StatusResponse>> {
        if !lock(&self.records).iter().any(|record| record.r#ref == name) {
            return None;
        }
        let bytes = std::fs::read(self.file(name, SAID)).ok()?;
        let (mut left, mut said) = (bytes.as_slice(), Vec::new());
        while !left.is_empty() {
            match StatusResponse::decode_length_delimited(&mut left) {
                Ok(message) => said.push(message),
                Err(error) => {
                    tracing::warn!("read what a build said: {error}");
                    break;
                }
            }
        }
        Some(said)
    }

    /// What is known, and what comes.
    pub(super) fn listen(
        &self,
        request: &BuildHistoryRequest,
    ) -> (Vec<BuildHistoryEvent>, broadcast::Receiver<BuildHistoryEvent>) {
        let news = self.news.subscribe();
        let wanted = |record: &&BuildHistoryRecord| request.r#ref.is_empty() || record.r#ref == request.r#ref;
        let running = lock(&self.running);
        let running = running.values().filter(wanted);
        let mut known: Vec<BuildHistoryEvent> =
            running.map(|record| event(BuildHistoryEventType::Started, record.clone())).collect();
        if request.active_only {
            return (known, news);
        }
        let records = lock(&self.records);
        let over = records.iter().filter(wanted);
        known.extend(over.map(|record| event(BuildHistoryEventType::Complete, record.clone())));
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
        let mut records = lock(&self.records);
        let at = records.iter().position(|record| record.r#ref == request.r#ref);
        let at =
            at.ok_or_else(|| Status::not_found(format!("no build record found for ref {}", request.r#ref)))?;
        if request.delete {
            if let Some(record) = records.remove(at) {
                let gone = self.erase(&record, &records);
                drop(records);
                remove_later(gone);
                self.tell(BuildHistoryEventType::Deleted, record);
            }
        } else if !request.finalize {
            records[at].pinned = request.pinned;
            let written = self.write(&records[at], None);
            written.map_err(|error| Status::unknown(format!("keep the record of a build: {error}")))?;
        }
        Ok(())
    }
}

/// Removes files when the disk is ready: a build's end does not wait for that. What is left of them goes with the next
/// start.
fn remove_later(files: Vec<OsString>) {
    if files.is_empty() {
        return;
    }
    let remove = move || files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    if let Err(error) = std::thread::Builder::new().name("history".to_owned()).spawn(remove) {
        tracing::warn!("remove records of builds: {error}");
    }
}

/// What is known of a build from its beginning.
fn record(solving: &Solving) -> BuildHistoryRecord {
    let mut attributes = solving.attributes();
    // Arguments may hold what is nobody else's business.
    attributes.retain(|name, _| !name.starts_with("build-arg:"));
    BuildHistoryRecord {
        r#ref: solving.request.r#ref.clone(),
        frontend: solving.request.frontend.clone(),
        frontend_attrs: attributes,
        exporters: solving.request.exporters.clone(),
        created_at: Some(moment(solving.began)),
        ..BuildHistoryRecord::default()
    }
}
