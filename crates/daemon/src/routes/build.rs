//! Builds, which are still to come.

use wharf_api::BuildCachePruned;
use wharf_engine::{Error, Result};

use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::routes::absent::not_available;

pub(crate) async fn build(call: Call) -> Result<Answer> {
    drop(call.into_stream());
    Err(not_available("build"))
}

/// There is no cache, so that nothing is left in it.
pub(crate) async fn prune(call: Call) -> Result<Answer> {
    call.query.filters()?;
    answer::json(&BuildCachePruned::default())
}

pub(crate) async fn cancel(call: Call) -> Result<Answer> {
    if call.query.get("id").is_empty() {
        return Err(Error::invalid("build ID not provided"));
    }
    Err(not_available("build"))
}

pub(crate) async fn session(call: Call) -> Result<Answer> {
    if !call.wants_upgrade() {
        return Err(Error::invalid("no upgrade proto in request"));
    }
    Err(not_available("session"))
}

pub(crate) async fn grpc(call: Call) -> Result<Answer> {
    if !call.wants_upgrade() {
        return Err(Error::invalid("no upgrade proto in request"));
    }
    Err(not_available("grpc"))
}
