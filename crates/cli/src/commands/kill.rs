//! `wharf kill`.

use hyper::Method;

use super::{Outcome, each};
use crate::connect::Target;
use crate::filters::path;

#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    /// Signal to send to the container
    #[arg(short, long, value_name = "STRING", default_value = "KILL", hide_default_value = true)]
    signal: String,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Kill {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        each(&client, Method::POST, &self.containers, |name| {
            path(&format!("/containers/{name}/kill"), &[("signal", &self.signal)])
        })
        .await
    }
}
