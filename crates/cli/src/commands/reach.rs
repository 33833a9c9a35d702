//! From where published ports are reached: said where the host's firewall keeps some of the world out.

use wharf_api::LimitedPort;
use wharf_api::client::{Client, escape};

use crate::error::say;

/// Says on standard error who reaches the ports of a container, where that is not everybody. Engines that cannot
/// say are not asked twice.
pub(super) async fn tell(client: &Client, container: &str) {
    let path = format!("/containers/{}/reach", escape(container));
    let limited: Vec<LimitedPort> = client.get(&path).await.unwrap_or_default();
    for one in limited {
        say(&format!("{}: reached from {}", one.port, one.from));
    }
}
