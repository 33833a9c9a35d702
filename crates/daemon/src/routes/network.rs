//! Networks.

use hyper::StatusCode;
use wharf_api::{
    LimitedPort, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest, NetworkUpdateRequest,
};
use wharf_engine::Result;

use crate::http::answer::{self, Answer};
use crate::http::call::Call;

pub(crate) async fn list(call: Call) -> Result<Answer> {
    let filters = call.query.filters()?;
    answer::json(&call.engine().networks.list(&filters).await?)
}

pub(crate) async fn inspect(call: Call) -> Result<Answer> {
    answer::json(&call.engine().networks.inspect(call.id()).await?)
}

pub(crate) async fn create(mut call: Call) -> Result<Answer> {
    let request: NetworkCreateRequest = call.json_required().await?;
    answer::json_with(StatusCode::CREATED, &call.engine().networks.create(request).await?)
}

pub(crate) async fn remove(call: Call) -> Result<Answer> {
    call.engine().networks.remove(call.id()).await?;
    answer::no_content()
}

pub(crate) async fn connect(mut call: Call) -> Result<Answer> {
    let request: NetworkConnectRequest = call.json_required().await?;
    let NetworkConnectRequest { container, endpoint_config } = request;
    call.engine().containers.connect(call.id(), &container, endpoint_config).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(crate) async fn disconnect(mut call: Call) -> Result<Answer> {
    let request: NetworkDisconnectRequest = call.json_required().await?;
    call.engine().containers.disconnect(call.id(), &request.container, request.force).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(crate) async fn prune(call: Call) -> Result<Answer> {
    let filters = call.query.filters()?;
    answer::json(&call.engine().networks.prune(&filters).await?)
}

pub(crate) async fn update(mut call: Call) -> Result<Answer> {
    let request: NetworkUpdateRequest = call.json_required().await?;
    let NetworkUpdateRequest { container, driver_opts } = request;
    call.engine().containers.limit(call.id(), &container, driver_opts).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(crate) async fn reach(call: Call) -> Result<Answer> {
    let container = call.engine().containers.find(call.id())?;
    let limited = call.engine().networks.limited_ports(container.id()).await?;
    let limited: Vec<LimitedPort> =
        limited.into_iter().map(|one| LimitedPort { port: one.port, from: one.from }).collect();
    answer::json(&limited)
}
