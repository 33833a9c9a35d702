//! What this engine does not have: swarm, plugins, checkpoints. Each answers as a Docker without it.

use wharf_engine::{Error, Result};

use crate::http::answer::{self, Answer};
use crate::http::call::Call;

const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                          connect this node to swarm and try again.";

/// The error for what is still to come.
pub(crate) fn not_available(what: &str) -> Error {
    Error::not_implemented(format!("{what} is not available in this version of Wharf"))
}

pub(crate) async fn swarm(_call: Call) -> Result<Answer> {
    Err(Error::unavailable(NO_MANAGER))
}

pub(crate) async fn swarm_init(_call: Call) -> Result<Answer> {
    Err(not_available("swarm"))
}

pub(crate) async fn swarm_leave(_call: Call) -> Result<Answer> {
    Err(Error::unavailable("This node is not part of a swarm"))
}

pub(crate) async fn plugins(_call: Call) -> Result<Answer> {
    answer::json::<[u8; 0]>(&[])
}

pub(crate) async fn plugin(call: Call) -> Result<Answer> {
    Err(Error::not_found(format!("plugin \"{}\" not found", call.id())))
}

pub(crate) async fn plugin_privileges(_call: Call) -> Result<Answer> {
    Err(not_available("plugin privileges"))
}

pub(crate) async fn plugin_install(call: Call) -> Result<Answer> {
    drop(call.into_stream());
    Err(not_available("plugin install"))
}

pub(crate) async fn checkpoints(_call: Call) -> Result<Answer> {
    Err(not_available("checkpoint"))
}
