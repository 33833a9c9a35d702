//! `wharf restart`.

use hyper::Method;

use super::{Outcome, each};
use crate::connect::Target;
use crate::filters::path;

#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    /// Signal to send to the container
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    signal: String,
    /// Seconds to wait before killing the container
    #[arg(short = 't', long, visible_alias = "time", value_name = "INT", allow_negative_numbers = true)]
    timeout: Option<i64>,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Restart {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let timeout = self.timeout.map(|seconds| seconds.to_string()).unwrap_or_default();
        each(&client, Method::POST, &self.containers, |name| {
            path(&format!("/containers/{name}/restart"), &[("signal", &self.signal), ("t", &timeout)])
        })
        .await
    }
}
