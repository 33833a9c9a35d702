//! `wharf wait`.

use wharf_api::WaitResponse;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::error::{print, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Wait {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let mut code = 0;
        for name in &self.containers {
            match client
                .post::<WaitResponse>(&format!("/containers/{}/wait", escape(name)), &serde_json::json!({}))
                .await
            {
                Ok(ended) => print(&ended.status_code.to_string())?,
                Err(error) => {
                    say(&error.to_string());
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
