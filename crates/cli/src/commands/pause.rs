//! `wharf pause` and `wharf unpause`.

use hyper::Method;

use super::{Outcome, each};
use crate::connect::Target;

#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Pause {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        each(&client, Method::POST, &self.containers, |name| format!("/containers/{name}/pause")).await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Unpause {
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Unpause {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        each(&client, Method::POST, &self.containers, |name| format!("/containers/{name}/unpause")).await
    }
}
