//! `wharf top`.

use wharf_api::TopResponse;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::filters::path;
use crate::table;

#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    container: String,
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Top {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let target = path(
            &format!("/containers/{}/top", escape(&self.container)),
            &[("ps_args", &escape(&self.options.join(" ")))],
        );
        let top: TopResponse = client.get(&target).await?;
        let lines: Vec<String> =
            std::iter::once(&top.titles).chain(&top.processes).map(|row| row.join("\t")).collect();
        table::print_wide(&lines, 20)?;
        Ok(0)
    }
}
