//! Execs, but for their start, which hands a connection over.

use hyper::StatusCode;
use wharf_api::{ExecCreateRequest, IdResponse};
use wharf_engine::Result;

use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::routes::container::terminal_size;

pub(crate) async fn create(mut call: Call) -> Result<Answer> {
    let mut request: ExecCreateRequest = call.json_required().await?;
    if !call.version.at_least(42) {
        request.console_size = None;
    }
    let id = call.engine().execs.create(call.id(), request).await?;
    answer::json_with(StatusCode::CREATED, &IdResponse { id })
}

pub(crate) async fn resize(call: Call) -> Result<Answer> {
    let (height, width) = terminal_size(&call.query)?;
    call.engine().execs.resize(call.id(), height, width).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(crate) async fn inspect(call: Call) -> Result<Answer> {
    answer::json(&call.engine().execs.inspect(call.id()).await?)
}
