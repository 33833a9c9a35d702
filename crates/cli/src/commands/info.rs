//! `wharf info`.

use std::fmt::Write;

use serde_json::{Value, json};

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
        let mut info: Value = client.get("/info").await?;
        let context = target.context_name();
        if let Some(template) = &self.format {
            info["ClientInfo"] = json!({ "Debug": target.debug(), "Context": context, "Version": env!("CARGO_PKG_VERSION"), "Plugins": [], "Warnings": null });
            print(&format::document(template, &info)?)?;
            return Ok(0);
        }
        print(&format!(
            "Client:\n Version:    {}\n Context:    {context}\n Debug Mode: {}\n",
            env!("CARGO_PKG_VERSION"),
            target.debug()
        ))?;
        print(page(&info).trim_end())?;
        print("")?;
        for warning in info["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            say(warning);
        }
        Ok(0)
    }
}

/// Lines of `name: value`, indented.
struct Page(String);

impl Page {
    fn line(&mut self, indent: usize, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{:indent$}{name}: {value}", "");
    }

    fn heading(&mut self, indent: usize, name: &str) {
        let _ = writeln!(self.0, "{:indent$}{name}:", "");
    }

    /// An item under a heading.
    fn plain(&mut self, text: &str) {
        let _ = writeln!(self.0, "  {text}");
    }
}

fn page(info: &Value) -> String {
    let mut page = Page("Server:\n".into());
    let number = |name: &str| info[name].as_i64().unwrap_or(0).to_string();
    let word = |name: &str| info[name].as_str().unwrap_or("").to_owned();
    for (indent, name, field) in [
        (1, "Containers", "Containers"),
        (2, "Running", "ContainersRunning"),
        (2, "Paused", "ContainersPaused"),
        (2, "Stopped", "ContainersStopped"),
        (1, "Images", "Images"),
    ] {
        page.line(indent, name, &number(field));
    }
    page.line(1, "Server Version", &word("ServerVersion"));
    page.line(1, "Storage Driver", &word("Driver"));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        page.line(2, pair[0].as_str().unwrap_or(""), pair[1].as_str().unwrap_or(""));
    }
    page.line(1, "Logging Driver", &word("LoggingDriver"));
    page.line(1, "Cgroup Driver", &word("CgroupDriver"));
    page.line(1, "Cgroup Version", &word("CgroupVersion"));
    page.heading(1, "Plugins");
    for kind in ["Volume", "Network", "Log"] {
        page.line(2, kind, &words(&info["Plugins"][kind]));
    }
    let named = |key: &str| info[key].as_array().cloned().unwrap_or_default();
    let directories = named("CDISpecDirs");
    if !directories.is_empty() {
        page.heading(1, "CDI spec directories");
        directories.iter().filter_map(Value::as_str).for_each(|path| page.plain(path));
    }
    let devices = named("DiscoveredDevices");
    if !devices.is_empty() {
        page.heading(1, "Discovered Devices");
        for device in &devices {
            page.line(
                2,
                device["Source"].as_str().unwrap_or_default(),
                device["ID"].as_str().unwrap_or_default(),
            );
        }
    }
    page.line(1, "Swarm", info["Swarm"]["LocalNodeState"].as_str().unwrap_or("inactive"));
    let runtimes: Vec<&str> =
        info["Runtimes"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    page.line(1, "Runtimes", &runtimes.join(" "));
    page.line(1, "Default Runtime", &word("DefaultRuntime"));
    page.line(1, "Init Binary", &word("InitBinary"));
    security(&mut page, info);
    host(&mut page, info);
    page.0
}

fn security(page: &mut Page, info: &Value) {
    let options: Vec<&str> =
        info["SecurityOptions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if options.is_empty() {
        return;
    }
    page.heading(1, "Security Options");
    for option in options {
        for field in option.split(',') {
            match field.split_once('=') {
                Some(("name", name)) => page.plain(name),
                Some(("profile", profile)) => page.line(3, "Profile", profile),
                Some((name, value)) => page.line(3, name, value),
                None => page.plain(field),
            }
        }
    }
}

fn host(page: &mut Page, info: &Value) {
    let word = |name: &str| info[name].as_str().unwrap_or("").to_owned();
    let flag = |name: &str| info[name].as_bool().unwrap_or(false).to_string();
    for (name, field) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ] {
        page.line(1, name, &word(field));
    }
    page.line(1, "CPUs", &info["NCPU"].as_i64().unwrap_or(0).to_string());
    page.line(1, "Total Memory", &units::binary_size(info["MemTotal"].as_u64().unwrap_or(0)));
    page.line(1, "Name", &word("Name"));
    page.line(1, "ID", &word("ID"));
    page.line(1, "Docker Root Dir", &word("DockerRootDir"));
    page.line(1, "Debug Mode", &flag("Debug"));
    for (name, field) in [("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")]
    {
        if !word(field).is_empty() {
            page.line(1, name, &word(field));
        }
    }
    let labels: Vec<&str> =
        info["Labels"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !labels.is_empty() {
        page.heading(1, "Labels");
        labels.iter().for_each(|label| page.plain(label));
    }
    page.line(1, "Experimental", &flag("ExperimentalBuild"));
    let registries = info["RegistryConfig"]["InsecureRegistryCIDRs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let registries: Vec<&str> = registries.collect();
    if !registries.is_empty() {
        page.heading(1, "Insecure Registries");
        registries.iter().for_each(|registry| page.plain(registry));
    }
    page.line(1, "Live Restore Enabled", &flag("LiveRestoreEnabled"));
}

fn words(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_what_docker_tells() {
        let info = json!({ "Containers": 2, "SecurityOptions": ["name=seccomp,profile=builtin"], "Plugins": { "Log": ["json-file", "local"] }, "LiveRestoreEnabled": true });
        let page = page(&info);
        for line in [
            " Containers: 2\n",
            "  Log: json-file local\n",
            " Security Options:\n  seccomp\n   Profile: builtin\n",
            " Live Restore Enabled: true\n",
        ] {
            assert!(page.contains(line), "{line:?} in {page}");
        }
    }
}
