//! The portable half: environment, working directory, health check, stop signal, host name.

use wharf_api::{ContainerConfig, HealthConfig, HostConfig};

use crate::container::spec::points::clean;
use crate::error::{Error, Result};

pub(super) fn check(config: &mut ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            let why = "is invalid, it needs to be an absolute path";
            return Err(Error::invalid(format!("the working directory '{}' {why}", config.working_dir)));
        }
        config.working_dir = clean(&config.working_dir);
    }
    // A number is taken as it is, also one that no signal has.
    let known = |text: &str| {
        text.parse::<i32>().is_ok_and(|number| number != 0) || wharf_sys::signal::parse(text).is_some()
    };
    if !config.stop_signal.is_empty() && !known(&config.stop_signal) {
        return Err(Error::invalid(format!("invalid signal: {}", config.stop_signal)));
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {variable}")));
        }
    }
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

const MILLISECOND: i64 = 1_000_000;

fn check_health(health: &HealthConfig) -> Result<()> {
    let at_least = |name: &str, nanos: i64| {
        if nanos != 0 && nanos < MILLISECOND {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
        Ok(())
    };
    at_least("Interval", health.interval)?;
    at_least("Timeout", health.timeout)?;
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    at_least("StartPeriod", health.start_period)?;
    at_least("StartInterval", health.start_interval)
}

/// The host name: the first digits of the id, or the host's own where the container shares its network.
pub(super) fn fill(config: &mut ContainerConfig, host: &HostConfig, id: &str) {
    if config.hostname.is_empty() {
        config.hostname = if host.network_mode == "host" {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            id.chars().take(12).collect()
        };
    }
    if config.labels.is_none() {
        config.labels = Some(std::collections::BTreeMap::new());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::create_with;
    use super::*;

    fn refusal(config: ContainerConfig) -> String {
        let mut config = config;
        create_with(&mut config, &mut HostConfig::default()).unwrap_err().message().to_owned()
    }

    fn health(health: HealthConfig) -> String {
        refusal(ContainerConfig { healthcheck: Some(health), ..ContainerConfig::default() })
    }

    #[test]
    fn refusals_are_the_recorded_ones() {
        let config = ContainerConfig { working_dir: "rel".to_owned(), ..ContainerConfig::default() };
        assert_eq!(
            refusal(config),
            "the working directory 'rel' is invalid, it needs to be an absolute path"
        );
        let config = ContainerConfig { env: Some(vec!["=x".to_owned()]), ..ContainerConfig::default() };
        assert_eq!(refusal(config), "invalid environment variable: =x");
        let config = ContainerConfig { stop_signal: "SIGFOO".to_owned(), ..ContainerConfig::default() };
        assert_eq!(refusal(config), "invalid signal: SIGFOO");
        let each = HealthConfig::default;
        assert_eq!(
            health(HealthConfig { interval: 1, ..each() }),
            "Interval in Healthcheck cannot be less than 1ms"
        );
        assert_eq!(
            health(HealthConfig { timeout: -1, ..each() }),
            "Timeout in Healthcheck cannot be less than 1ms"
        );
        assert_eq!(
            health(HealthConfig { retries: -1, ..each() }),
            "Retries in Healthcheck cannot be negative"
        );
        let text = "StartPeriod in Healthcheck cannot be less than 1ms";
        assert_eq!(health(HealthConfig { start_period: 100, ..each() }), text);
        let text = "StartInterval in Healthcheck cannot be less than 1ms";
        assert_eq!(health(HealthConfig { start_interval: 100, ..each() }), text);
    }

    #[test]
    fn defaults_are_filled() {
        let mut config = ContainerConfig { working_dir: "/a/../b/".to_owned(), ..ContainerConfig::default() };
        create_with(&mut config, &mut HostConfig::default()).unwrap();
        assert_eq!((config.hostname.as_str(), config.working_dir.as_str()), ("0123456789ab", "/b"));
        assert!(config.labels.is_some());
    }
}
