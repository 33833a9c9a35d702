//! `wharf events`.

use hyper::Method;
use serde_json::Value;
use wharf_api::client::{Body, escape};

use super::{Outcome, logs, pull};
use crate::connect::Target;
use crate::error::print;
use crate::filters::{path, query};
use crate::format;

#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    since: String,
    /// Stream events until this timestamp
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    until: String,
}

impl Events {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let (since, until) = (escape(&logs::moment(&self.since)?), escape(&logs::moment(&self.until)?));
        let target =
            path("/events", &[("since", &since), ("until", &until), ("filters", &query(&self.filter)?)]);
        let answer = client.send(Method::GET, &target, Body::Empty, &[]).await?;
        let mut failed = None;
        pull::messages(answer.into_body(), |event| {
            let line = match &self.format {
                Some(template) if template == "json" => Ok(event.to_string()),
                Some(template) => format::document(template, &typed(event)),
                None => Ok(line(event)),
            };
            if failed.is_none() {
                failed = line.and_then(|line| print(&line)).err();
            }
        })
        .await?;
        failed.map_or(Ok(0), Err)
    }
}

/// An event under the names that Docker's own structure has.
fn typed(event: &Value) -> Value {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    serde_json::json!({
        "Status": text("status"), "ID": text("id"), "From": text("from"), "Type": text("Type"), "Action": text("Action"),
        "Actor": event["Actor"], "Scope": text("scope"), "Time": event["time"], "TimeNano": event["timeNano"],
    })
}

/// `TIME TYPE ACTION ID (key=value, …)`.
fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let time = event["timeNano"]
        .as_i64()
        .and_then(|nanoseconds| jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).ok());
    let time = time.map(|time| format!("{time:.9}")).unwrap_or_default();
    let attributes = event["Actor"]["Attributes"].as_object();
    let attributes: Vec<String> =
        attributes.into_iter().flatten().map(|(name, value)| format!("{name}={}", text(value))).collect();
    let attributes =
        if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    format!(
        "{time} {} {} {}{attributes}",
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    )
}
