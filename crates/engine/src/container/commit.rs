//! An image from a container.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wharf_api::ContainerConfig;
use wharf_layer::job::Job;
use wharf_oci::image::Config;
use wharf_oci::{Digest, History, ImageConfig, Platform, Reference};

use super::export::check_there;
use super::fs_job::Running;
use super::validate::merge_image;
use super::{Containers, Record, State, launch};
use crate::error::{Error, Result};
use crate::events::Kind;
use crate::image::new_name;
use crate::pools::Class;

/// What `docker commit` says.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Repository of the new image's name; empty: no name.
    pub repository: String,
    /// Its tag; empty: `latest`.
    pub tag: String,
    pub comment: String,
    pub author: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// The new image's configuration; what it leaves open is the container's.
    pub config: Option<ContainerConfig>,
}

impl Containers {
    /// Makes an image of what a container's file system is now. Returns the image's id.
    pub async fn commit(self: &Arc<Self>, asked: &str, options: CommitOptions) -> Result<String> {
        let view = self.find(asked)?.view();
        check_there(&view, "commit")?;
        if let State::Restarting(_) = view.state() {
            return Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                view.record.id
            )));
        }
        let name = new_name(&options.repository, &options.tag)?;
        let config = image_config(&view.record.config, &options)?;
        let frozen = options.pause && matches!(view.state(), State::Running(_));
        if frozen {
            self.pause(&view.record.id).await?;
        }
        let (containers, record, asked) = (self.clone(), view.record.clone(), asked.to_owned());
        let work = move || containers.commit_now(&record, &asked, &options, config, name.as_ref());
        let done = self.pools.run(Class::Images, work).await;
        if frozen && let Err(error) = self.unpause(&view.record.id).await {
            tracing::warn!("unpause {} after commit: {error}", view.record.id);
        }
        done
    }

    fn commit_now(
        &self,
        record: &Record,
        asked: &str,
        options: &CommitOptions,
        config: Config,
        name: Option<&Reference>,
    ) -> Result<String> {
        let parent = launch::image(record)?;
        let (document, history) = self.documents(record, parent.as_ref(), options, config)?;
        let job = Job::Diff { tree: self.recipe_of(&record.id)?, base: self.store.base_recipe(&record.id)? };
        let mut diff = Running::start(self, &job, asked, "/")?;
        let image = self.images.create_from_diff(parent.as_ref(), document, history, &mut diff, name)?;
        let id = image.id.to_string();
        let reference = name.map(Reference::familiar).unwrap_or_default();
        let about = |name: &str| BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.events.emit(Kind::Image, "create", &id, about(&id));
        if name.is_some() {
            self.events.emit(Kind::Image, "tag", &id, about(&reference));
        }
        let said = [("comment", options.comment.as_str()), ("imageID", &id), ("imageRef", &reference)];
        self.emit(record, "commit", &said);
        Ok(id)
    }

    /// The image's config and the step in its history.
    fn documents(
        &self,
        record: &Record,
        parent: Option<&Digest>,
        options: &CommitOptions,
        config: Config,
    ) -> Result<(ImageConfig, History)> {
        let created = Some(Timestamp::now().to_string());
        let mut document = match parent {
            Some(parent) => self.images.config(parent)?,
            None => {
                let host = Platform::host();
                ImageConfig {
                    architecture: host.architecture,
                    os: host.os,
                    variant: host.variant,
                    ..ImageConfig::default()
                }
            }
        };
        document.author.clone_from(&options.author);
        document.comment.clone_from(&options.comment);
        document.container.clone_from(&record.id);
        env!("CARGO_PKG_VERSION").clone_into(&mut document.docker_version);
        document.created.clone_from(&created);
        document.config = config;
        let history = History {
            created,
            created_by: record.config.cmd.clone().unwrap_or_default().join(" "),
            author: options.author.clone(),
            comment: options.comment.clone(),
            empty_layer: false,
        };
        Ok((document, history))
    }
}

/// What the request says (the container's own, if nothing), changed by its instructions and filled up from the container.
fn image_config(container: &ContainerConfig, options: &CommitOptions) -> Result<Config> {
    let mut wanted: Config = converted(options.config.as_ref().unwrap_or(container))?;
    wharf_build::plan::change(&mut wanted, &options.changes)
        .map_err(|error| Error::invalid(error.to_string()))?;
    let mut merged: ContainerConfig = converted(&wanted)?;
    merge_image(&mut merged, &converted(container)?)?;
    converted(&merged)
}

/// A container's configuration as an image's and back: the same document, of which images keep less.
fn converted<A: Serialize, B: DeserializeOwned>(config: &A) -> Result<B> {
    let value = serde_json::to_value(config).and_then(serde_json::from_value);
    value.map_err(|error| Error::internal(format!("convert configuration: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_go_before_the_containers_own() {
        let container = ContainerConfig {
            hostname: "h".to_owned(),
            env: Some(vec!["A=container".to_owned(), "B=2".to_owned()]),
            cmd: Some(vec!["sh".to_owned()]),
            user: "7".to_owned(),
            ..ContainerConfig::default()
        };
        let options = CommitOptions {
            changes: vec!["ENV B=new".to_owned(), "EXPOSE 80".to_owned()],
            ..CommitOptions::default()
        };
        let config = image_config(&container, &options).unwrap();
        assert_eq!(config.env, ["A=container", "B=new"]);
        assert_eq!((config.user.as_str(), config.cmd), ("7", Some(vec!["sh".to_owned()])));
        assert!(config.exposed_ports.contains_key("80/tcp"));
        let wrong = CommitOptions { changes: vec!["RUN x".to_owned()], ..CommitOptions::default() };
        assert_eq!(
            image_config(&container, &wrong).unwrap_err().message(),
            "RUN is not a valid change command"
        );
    }
}
