//! `wharf rm`.

use hyper::Method;

use super::{Outcome, each};
use crate::connect::Target;
use crate::filters::path;

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let flag = |set: bool| if set { "1" } else { "" };
        each(&client, Method::DELETE, &self.containers, |name| {
            path(
                &format!("/containers/{name}"),
                &[("force", flag(self.force)), ("link", flag(self.link)), ("v", flag(self.volumes))],
            )
        })
        .await
    }
}
