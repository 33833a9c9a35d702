//! What the image says, where the request says nothing.

use std::collections::BTreeMap;

use wharf_api::{ContainerConfig, Empty, HealthConfig};
use wharf_oci::image::{Config, Healthcheck};

use crate::error::{Error, Result};

/// Merges the image's configuration into the container's, as Docker does at create.
///
/// # Errors
/// `no command specified`.
pub fn merge_image(config: &mut ContainerConfig, image: &Config) -> Result<()> {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    keys(&mut config.exposed_ports, image.exposed_ports.keys());
    keys(&mut config.volumes, image.volumes.keys());
    env(&mut config.env, &image.env);
    if !image.labels.is_empty() {
        let labels = config.labels.get_or_insert_default();
        for (name, value) in &image.labels {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    command(config, image);
    if let Some(probe) = &image.healthcheck {
        health(&mut config.healthcheck, probe);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if config.shell.as_ref().is_none_or(Vec::is_empty) && !image.shell.is_empty() {
        config.shell = Some(image.shell.clone());
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout;
    }
    // An empty entrypoint is how a request takes the image's away.
    if config.entrypoint.as_deref().is_some_and(|entrypoint| entrypoint == [""]) {
        config.entrypoint = None;
    }
    let words = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
    if words(&config.entrypoint) + words(&config.cmd) == 0 {
        return Err(Error::invalid("no command specified"));
    }
    Ok(())
}

fn keys<'a>(own: &mut Option<BTreeMap<String, Empty>>, image: impl Iterator<Item = &'a String>) {
    for key in image {
        own.get_or_insert_default().entry(key.clone()).or_default();
    }
}

fn env(own: &mut Option<Vec<String>>, image: &[String]) {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let Some(list) = own.as_mut().filter(|list| !list.is_empty()) else {
        if !image.is_empty() {
            *own = Some(image.to_vec());
        }
        return;
    };
    for variable in image {
        if !list.iter().any(|other| name(other) == name(variable)) {
            list.push(variable.clone());
        }
    }
}

/// A command of one's own goes with the image's entrypoint, an entrypoint of one's own without the image's command.
fn command(config: &mut ContainerConfig, image: &Config) {
    if config.entrypoint.as_ref().is_some_and(|entrypoint| !entrypoint.is_empty()) {
        return;
    }
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        config.cmd.clone_from(&image.cmd);
        config.args_escaped = image.args_escaped;
    }
    if config.entrypoint.is_none() {
        config.entrypoint.clone_from(&image.entrypoint);
    }
}

fn health(own: &mut Option<HealthConfig>, image: &Healthcheck) {
    let own = own.get_or_insert_default();
    if own.test.as_ref().is_none_or(Vec::is_empty) {
        own.test = Some(image.test.clone());
    }
    for (own, image) in [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ] {
        if *own == 0 {
            *own = image;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn image() -> Config {
        Config {
            entrypoint: Some(words(&["/e"])),
            cmd: Some(words(&["c"])),
            env: words(&["A=image", "B=image"]),
            ..Config::default()
        }
    }

    fn merged(
        entrypoint: Option<&[&str]>,
        cmd: Option<&[&str]>,
    ) -> (Option<Vec<String>>, Option<Vec<String>>) {
        let mut config = ContainerConfig {
            entrypoint: entrypoint.map(words),
            cmd: cmd.map(words),
            ..ContainerConfig::default()
        };
        merge_image(&mut config, &image()).unwrap();
        (config.entrypoint, config.cmd)
    }

    #[test]
    fn commands_and_entrypoints() {
        let (own, other) = (|text: &str| Some(words(&[text])), None);
        assert_eq!(merged(None, None), (own("/e"), own("c")));
        assert_eq!(merged(None, Some(&["x"])), (own("/e"), own("x")));
        assert_eq!(merged(Some(&["/f"]), None), (own("/f"), None));
        assert_eq!(merged(Some(&[""]), Some(&["x"])), (other, own("x")));
        let mut nothing = ContainerConfig::default();
        assert_eq!(
            merge_image(&mut nothing, &Config::default()).unwrap_err().message(),
            "no command specified"
        );
    }

    #[test]
    fn what_the_request_says_wins() {
        let mut config = ContainerConfig { env: Some(words(&["A=own", "C"])), ..ContainerConfig::default() };
        merge_image(&mut config, &image()).unwrap();
        assert_eq!(config.env.unwrap(), ["A=own", "C", "B=image"]);
    }
}
