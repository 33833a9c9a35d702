//! Instructions that change a config and run nothing, as `docker commit --change` and `docker import --change` take them.

use std::collections::BTreeMap;

use wharf_oci::Platform;
use wharf_oci::image::Config;

use super::stage::{Planner, pairs};
use super::{ContextSource, PlanError, PlanOptions};
use crate::dockerfile::{Dockerfile, changes_of};

/// Applies instructions in their order.
///
/// # Errors
/// An instruction that is no change of a config, or is wrong; `config` is then as it was.
pub fn change(config: &mut Config, changes: &[String]) -> Result<(), PlanError> {
    let dockerfile = Dockerfile::parse("FROM scratch")?;
    let (options, images) = (options(), BTreeMap::new());
    let mut planner = Planner::new(&dockerfile, &options, &images)?;
    let mut state = planner.begin(0, &mut Vec::new())?;
    state.variables = pairs(&config.env).collect();
    state.image.config = config.clone();
    for located in changes_of(&changes.join("\n"))? {
        planner.dispatch(&mut state, &located)?;
    }
    let args_escaped = config.args_escaped;
    *config = Config { args_escaped, ..state.image.config };
    Ok(())
}

/// Nothing is given but what stands in the instructions.
fn options() -> PlanOptions {
    PlanOptions {
        target: None,
        arguments: BTreeMap::new(),
        labels: BTreeMap::new(),
        platform: Platform::host(),
        build_platform: Platform::host(),
        no_cache: None,
        hosts: Vec::new(),
        hostname: String::new(),
        context: ContextSource::Local { name: String::new(), ignored: Vec::new() },
        contexts: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Config {
        let mut config = Config::default();
        change(&mut config, &changes.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        config
    }

    #[test]
    fn instructions_change_the_config_as_dockers_do() {
        let config = applied(&[
            "CMD foo bar",
            "ENTRYPOINT [\"a\"]",
            "ENV A=b C=\"d e\"",
            "env A 2 3",
            "EXPOSE 80 81/udp 90-91",
            "LABEL x=y",
            "VOLUME /v",
            "USER me",
            "WORKDIR w",
            "WORKDIR ../x",
            "STOPSIGNAL 9",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD true",
            "ONBUILD RUN x",
        ]);
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "foo bar"]);
        assert_eq!(config.entrypoint.unwrap(), ["a"]);
        assert_eq!(config.env, ["A=2 3", "C=d e"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "81/udp", "90/tcp", "91/tcp"]);
        assert_eq!(config.labels["x"], "y");
        assert_eq!(config.working_dir, "/x");
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 2));
        assert_eq!(check.test, ["CMD-SHELL", "true"]);
        assert_eq!(config.on_build, ["RUN x"]);
        assert!(!config.args_escaped);
    }

    #[test]
    fn others_are_refused_in_dockers_words_and_nothing_is_changed() {
        for wrong in ["RUN x", "FROM y", "FOO", "COPY a b"] {
            let mut config = Config::default();
            let error = change(&mut config, &["ENV A=b".to_owned(), wrong.to_owned()]).unwrap_err();
            let word = wrong.split(' ').next().unwrap();
            assert_eq!(error.to_string(), format!("{word} is not a valid change command"));
            assert_eq!(config, Config::default());
        }
    }

    #[test]
    fn variables_of_the_image_are_expanded() {
        let config = applied(&["ENV HOME_DIR=/srv", "WORKDIR $HOME_DIR/app", "USER ${HOME_DIR}x"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/srv/app", "/srvx"));
    }

    #[test]
    fn what_was_there_stays_in_its_place() {
        let mut config = Config { env: vec!["A=1".to_owned(), "B=2".to_owned()], ..Config::default() };
        change(&mut config, &["ENV A=3".to_owned(), String::new()]).unwrap();
        assert_eq!(config.env, ["A=3", "B=2"]);
    }
}
