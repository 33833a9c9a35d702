//! `wharf info`.

use std::fmt::Write;

use serde_json::Value;

use super::Outcome;
use crate::connect::Target;
use crate::error::{print, say};
use crate::{format, units};

#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
}

impl Info {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let info: Value = client.get("/info").await?;
        match &self.format {
            Some(template) => print(&format::document(template, &info)?)?,
            None => print(page(&info).trim_end())?,
        }
        for warning in info["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            say(warning);
        }
        Ok(0)
    }
}

fn page(info: &Value) -> String {
    let mut text = String::from("Server:\n");
    let mut line = |indent: usize, name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:indent$}{name}: {value}", "");
    };
    let number = |name: &str| info[name].as_i64().unwrap_or(0).to_string();
    let word = |name: &str| info[name].as_str().unwrap_or("").to_owned();
    line(1, "Containers", &number("Containers"));
    line(2, "Running", &number("ContainersRunning"));
    line(2, "Paused", &number("ContainersPaused"));
    line(2, "Stopped", &number("ContainersStopped"));
    line(1, "Images", &number("Images"));
    line(1, "Server Version", &word("ServerVersion"));
    line(1, "Storage Driver", &word("Driver"));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(2, pair[0].as_str().unwrap_or(""), pair[1].as_str().unwrap_or(""));
    }
    line(1, "Logging Driver", &word("LoggingDriver"));
    line(1, "Cgroup Driver", &word("CgroupDriver"));
    line(1, "Cgroup Version", &word("CgroupVersion"));
    line(1, "Default Runtime", &word("DefaultRuntime"));
    for option in info["SecurityOptions"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        line(1, "Security Option", option);
    }
    line(1, "Kernel Version", &word("KernelVersion"));
    line(1, "Operating System", &word("OperatingSystem"));
    line(1, "OSType", &word("OSType"));
    line(1, "Architecture", &word("Architecture"));
    line(1, "CPUs", &number("NCPU"));
    line(1, "Total Memory", &units::binary_size(info["MemTotal"].as_u64().unwrap_or(0)));
    line(1, "Name", &word("Name"));
    line(1, "ID", &word("ID"));
    line(1, "Root Dir", &word("DockerRootDir"));
    text
}
