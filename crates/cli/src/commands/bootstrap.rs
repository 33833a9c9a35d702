//! `wharf image bootstrap`.

use hyper::Method;
use wharf_api::client::{Body, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::print;
use crate::filters::path;
use crate::progress;

#[derive(Debug, clap::Args)]
pub(crate) struct Bootstrap {
    /// Packages to have beside the smallest set
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    include: Vec<String>,
    /// Keys that may sign the archive: a file on the daemon's machine
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    keyring: String,
    /// Address of the archive, or with --snapshot of the folder that has one folder for each moment
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    mirror: String,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Take the archive as it was at a moment: 20260912T000000Z
    #[arg(long, value_name = "MOMENT", default_value = "", hide_default_value = true)]
    snapshot: String,
    /// A distribution and its suite: debian:trixie, ubuntu:noble
    #[arg(value_name = "NAME:SUITE")]
    name: String,
}

impl Bootstrap {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let include = self.include.join(",");
        let query = [
            ("name", &*escape(&self.name)),
            ("include", &escape(&include)),
            ("keyring", &escape(&self.keyring)),
            ("mirror", &escape(&self.mirror)),
            ("snapshot", &escape(&self.snapshot)),
        ];
        let answer = client.send(Method::POST, &path("/images/bootstrap", &query), Body::Empty, &[]).await?;
        progress::show(answer.into_body(), self.quiet, false, |_| {}).await?;
        print(&self.name)?;
        Ok(0)
    }
}
