//! Containers' file systems: copying in and out, export, changes, commit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use wharf_api::{ContainerConfig, IdResponse, PathStat};
use wharf_engine::container::commit::CommitOptions;
use wharf_engine::{Error, Result};

use crate::http::answer::{self, Answer, TAR};
use crate::http::call::Call;

const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

pub(crate) async fn changes(call: Call) -> Result<Answer> {
    let changes = call.engine().containers.changes(call.id()).await?;
    // No change is `null` to Docker's clients.
    answer::json(&Some(changes).filter(|changes| !changes.is_empty()))
}

pub(crate) async fn export(call: Call) -> Result<Answer> {
    let tar = call.engine().containers.export(call.id()).await?;
    answer::checked_stream("application/octet-stream", tar).await
}

/// The path of an archive request, which must not be empty.
fn archive_path(call: &Call) -> Result<&str> {
    match call.query.get("path") {
        "" => Err(Error::invalid("bad parameter: pathcannot be empty")),
        path => Ok(path),
    }
}

fn with_stat(mut answer: Answer, stat: &PathStat) -> Result<Answer> {
    let text = serde_json::to_vec(stat).map_err(|error| Error::internal(error.to_string()))?;
    let value =
        HeaderValue::from_str(&STANDARD.encode(text)).map_err(|error| Error::internal(error.to_string()))?;
    answer.headers_mut().insert(PATH_STAT, value);
    Ok(answer)
}

pub(crate) async fn stat_path(call: Call) -> Result<Answer> {
    let stat = call.engine().containers.stat_path(call.id(), archive_path(&call)?).await?;
    with_stat(answer::empty(StatusCode::OK), &stat)
}

pub(crate) async fn get_archive(call: Call) -> Result<Answer> {
    let (stat, tar) = call.engine().containers.get_archive(call.id(), archive_path(&call)?).await?;
    with_stat(answer::checked_stream(TAR, tar).await?, &stat)
}

pub(crate) async fn put_archive(call: Call) -> Result<Answer> {
    let app = call.app.clone();
    let (id, path) = (call.id().to_owned(), archive_path(&call)?.to_owned());
    let (keep_kinds, copy_ids) = (call.query.flag("noOverwriteDirNonDir"), call.query.flag("copyUIDGID"));
    app.engine.containers.put_archive(&id, &path, keep_kinds, copy_ids, call.into_stream()).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(crate) async fn commit(mut call: Call) -> Result<Answer> {
    let config: Option<ContainerConfig> = call.json().await?;
    let query = &call.query;
    if query.get("container").is_empty() {
        return Err(Error::invalid("invalid name or ID supplied: \"\""));
    }
    let options = CommitOptions {
        repository: query.get("repo").to_owned(),
        tag: query.get("tag").to_owned(),
        comment: query.get("comment").to_owned(),
        author: query.get("author").to_owned(),
        pause: query.flag_or("pause", true),
        changes: query.all("changes").iter().flat_map(|text| text.lines()).map(str::to_owned).collect(),
        config,
    };
    let id = call.engine().containers.commit(query.get("container"), options).await?;
    answer::json_with(StatusCode::CREATED, &IdResponse { id })
}
