//! Which log driver, with which options.

use std::collections::BTreeMap;

use wharf_api::HostConfig;

use crate::config::EngineConfig;
use crate::container::spec::log::parse_size;
use crate::error::{Error, Result};

/// Options that every driver takes.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
/// Options about what to write of the container beside the line.
const EXTRA: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];
/// Drivers that Docker has and this engine has not.
const FOREIGN: [&str; 6] = ["awslogs", "fluentd", "gcplogs", "gelf", "splunk", "etwlogs"];

/// Fills in the engine's driver and checks the options' names; their values are checked at start, as Docker does.
pub(super) fn settle(engine: &EngineConfig, host: &mut HostConfig) -> Result<()> {
    let log = &mut host.log_config;
    let options = log.config.get_or_insert_default();
    if log.r#type.is_empty() {
        log.r#type.clone_from(&engine.log_driver);
    }
    if log.r#type == engine.log_driver {
        for (name, value) in &engine.log_opts {
            options.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    check_mode(options)?;
    check_names(&log.r#type, options)
}

fn check_mode(options: &BTreeMap<String, String>) -> Result<()> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    let Some(size) = options.get("max-buffer-size") else { return Ok(()) };
    if mode != "non-blocking" {
        let why = "max-buffer-size option is only supported with 'mode=non-blocking'";
        return Err(Error::invalid(format!("logger: {why}")));
    }
    parse_size(size)
        .map(drop)
        .map_err(|why| Error::invalid(format!("error parsing option max-buffer-size: {why}")))
}

fn check_names(driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let own: &[&str] = match driver {
        "none" => return Ok(()),
        "json-file" => &["max-size", "max-file", "compress"],
        "local" => &["max-size", "max-file", "compress"],
        "journald" => &[],
        "syslog" => &SYSLOG,
        _ if FOREIGN.contains(&driver) => {
            let why = format!("the log driver {driver} is not available in this version of Wharf");
            return Err(Error::invalid(why));
        }
        _ => {
            let why = format!("error looking up logging plugin {driver}: plugin {driver:?} not found");
            return Err(Error::invalid(why));
        }
    };
    for name in options.keys().map(String::as_str) {
        let extra = EXTRA.contains(&name) && driver != "local";
        if !own.contains(&name) && !COMMON.contains(&name) && !extra {
            let place = if driver == "local" {
                "log driver local".to_owned()
            } else {
                format!("{driver} log driver")
            };
            return Err(Error::invalid(format!("unknown log opt '{name}' for {place}")));
        }
    }
    if driver == "syslog" { check_syslog(options) } else { Ok(()) }
}

const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
    "syslog-format",
];
const FACILITIES: [&str; 20] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

fn check_syslog(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(address) = options.get("syslog-address").filter(|address| !address.is_empty()) {
        let scheme = address.split_once("://").map_or("", |(scheme, _)| scheme);
        if !matches!(scheme, "unix" | "unixgram" | "udp" | "tcp" | "tcp+tls") {
            return Err(Error::invalid(format!("unsupported scheme: '{scheme}'")));
        }
    }
    if let Some(facility) = options.get("syslog-facility").filter(|facility| !facility.is_empty()) {
        let number = facility.parse::<u8>().is_ok_and(|number| number <= 23);
        if !number && !FACILITIES.contains(&facility.as_str()) {
            return Err(Error::invalid("invalid syslog facility"));
        }
    }
    let format = options.get("syslog-format").map_or("", String::as_str);
    if !matches!(format, "" | "rfc3164" | "rfc5424" | "rfc5424micro") {
        return Err(Error::invalid("Invalid syslog format"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::LogConfig;

    fn text(driver: &str, options: &[(&str, &str)]) -> Option<String> {
        let config = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let log_config = LogConfig { r#type: driver.to_owned(), config: Some(config) };
        let mut host = HostConfig { log_config, ..HostConfig::default() };
        settle(&EngineConfig::default(), &mut host).err().map(|error| error.message().to_owned())
    }

    #[test]
    fn refusals_are_the_recorded_ones() {
        let refused = |driver: &str, name: &str, value: &str, why: &str| {
            assert_eq!(text(driver, &[(name, value)]).as_deref(), Some(why));
        };
        refused("foo", "a", "b", "error looking up logging plugin foo: plugin \"foo\" not found");
        refused("json-file", "foo", "x", "unknown log opt 'foo' for json-file log driver");
        refused("local", "foo", "x", "unknown log opt 'foo' for log driver local");
        refused("journald", "x", "y", "unknown log opt 'x' for journald log driver");
        refused("syslog", "syslog-address", "foo", "unsupported scheme: ''");
        refused("syslog", "syslog-facility", "foo", "invalid syslog facility");
        refused("syslog", "syslog-format", "foo", "Invalid syslog format");
        refused("json-file", "mode", "foo", "logger: logging mode not supported: foo");
        let buffer = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
        refused("json-file", "max-buffer-size", "4m", buffer);
        let both = [("mode", "non-blocking"), ("max-buffer-size", "x")];
        let why = "error parsing option max-buffer-size: invalid size: 'x'";
        assert_eq!(text("json-file", &both).as_deref(), Some(why));
    }

    #[test]
    fn values_wait_for_the_start() {
        assert_eq!(text("json-file", &[("max-size", "x"), ("tag", "{{"), ("labels", "a")]), None);
        assert_eq!(text("none", &[("foo", "x")]), None);
        assert_eq!(text("", &[]), None);
    }
}
