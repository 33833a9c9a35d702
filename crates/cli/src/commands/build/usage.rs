//! `wharf buildx du`: what the build cache takes.

use bollard_buildkit_proto::moby::buildkit::v1::{DiskUsageRequest, UsageRecord};

use super::super::Outcome;
use super::{dial, failure};
use crate::connect::Target;
use crate::error::print;
use crate::units;

#[derive(Debug, clap::Args)]
pub(crate) struct Du {
    /// Provide filter values
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Provide a more verbose output
    #[arg(long)]
    verbose: bool,
}

impl Du {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let mut control = dial(&client).await?;
        let asked = DiskUsageRequest { filter: self.filter, ..DiskUsageRequest::default() };
        let answer = control.disk_usage(asked).await.map_err(|status| failure::error(&status))?;
        let records = answer.into_inner().record;
        if self.verbose {
            records.iter().try_for_each(|record| print(&described(record)))?;
        } else {
            print(&format!("{:<72}{:<12}{:<12}{}", "ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"))?;
            for record in &records {
                let id = if record.mutable { format!("{}*", record.id) } else { record.id.clone() };
                let used = record.last_used_at.map(|time| units::ago(time.seconds)).unwrap_or_default();
                print(&format!("{id:<72}{:<12}{:<12}{used}", !record.in_use, units::size(record.size)))?;
            }
        }
        let total: i64 = records.iter().map(|record| record.size).sum();
        let free: i64 = records.iter().filter(|record| !record.in_use).map(|record| record.size).sum();
        print(&format!("Reclaimable:\t{}", units::size(free)))?;
        print(&format!("Total:\t\t{}", units::size(total)))?;
        Ok(0)
    }
}

/// All that is known of a record.
fn described(record: &UsageRecord) -> String {
    let time = |time: Option<bollard_buildkit_proto::google::protobuf::Timestamp>| {
        time.map(|time| units::date(time.seconds)).unwrap_or_default()
    };
    let mut lines = vec![format!("ID:\t\t{}", record.id)];
    lines.extend((!record.parents.is_empty()).then(|| format!("Parents:\t{}", record.parents.join(" "))));
    lines.push(format!("Created at:\t{}", time(record.created_at)));
    lines.push(format!("Mutable:\t{}", record.mutable));
    lines.push(format!("Reclaimable:\t{}", !record.in_use));
    lines.push(format!("Shared:\t\t{}", record.shared));
    lines.push(format!("Size:\t\t{}", units::size(record.size)));
    lines.push(format!("Description:\t{}", record.description));
    lines.push(format!("Usage count:\t{}", record.usage_count));
    lines.push(format!("Last used:\t{}", time(record.last_used_at)));
    lines.push(format!("Type:\t\t{}", record.record_type));
    lines.join("\n") + "\n"
}
