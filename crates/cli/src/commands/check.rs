//! `wharf system check`.

use hyper::Method;
use wharf_api::SystemCheck;

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, print};
use crate::units;

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Believe what is there and has its size: nothing is read whole
    #[arg(long)]
    quick: bool,
    /// Mend what can be mended: unpack layers again, fetch lost blobs again, free what nothing names
    #[arg(long)]
    repair: bool,
}

impl Check {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let flag = |set: bool| if set { "1" } else { "0" };
        let path = format!("/system/check?repair={}&quick={}", flag(self.repair), flag(self.quick));
        let bytes = client.bytes(Method::POST, &path, wharf_api::client::Body::Empty).await?;
        let report: SystemCheck =
            wharf_api::from_slice(&bytes).map_err(|error| CliError::new(error.to_string()))?;
        for finding in &report.findings {
            let needed = match finding.images.as_slice() {
                [] => String::new(),
                images => {
                    let short: Vec<String> = images.iter().map(|id| units::short_id(id)).collect();
                    format!(", needed by {}", short.join(", "))
                }
            };
            let mended = if finding.repaired { ": repaired" } else { "" };
            print(&format!("{} {}{needed}{mended}", finding.damage, finding.object))?;
        }
        print(&format!(
            "checked {} images, {} layers, {} blobs ({})",
            report.images,
            report.layers,
            report.blobs,
            units::size(i64::try_from(report.bytes).unwrap_or(i64::MAX))
        ))?;
        let left = report.findings.iter().filter(|finding| !finding.repaired).count();
        match (left, self.repair) {
            (0, _) => Ok(0),
            (_, true) => {
                Err(CliError::new(format!("{left} could not be repaired: pull or load the images again")))
            }
            (_, false) => Err(CliError::new(format!("{left} found: run it with --repair"))),
        }
    }
}
