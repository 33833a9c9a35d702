//! An image in full.

use std::sync::Arc;

use wharf_api::{
    GraphDriver, HealthConfig, ImageInspect, ImageMetadata, ImageRunConfig, ManifestImageData, ManifestSize,
    ManifestSummary, NEVER, RootFs, UnpackedSize,
};
use wharf_oci::image::{Config, Set};
use wharf_oci::{Platform, Reference};
use wharf_store::Image;

use super::Images;
use crate::error::{Error, Result};

impl Images {
    /// The document of `docker image inspect`; with `manifests` also what was received, and every platform in it.
    pub async fn inspect(
        self: &Arc<Self>,
        name: &str,
        manifests: bool,
        platform: Option<Platform>,
    ) -> Result<ImageInspect> {
        let image = self.resolve(name)?;
        check_platform(&image, name, platform.as_ref())?;
        self.run(move |images| images.document(&image, manifests)).await
    }

    fn document(&self, image: &Image, manifests: bool) -> Result<ImageInspect> {
        let config = self.config(&image.id)?;
        let (repo_tags, repo_digests) = self.split_names(image);
        let driver = self.store.image_graph_driver(&image.id)?;
        Ok(ImageInspect {
            id: image.id.to_string(),
            repo_tags,
            repo_digests,
            parent: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            comment: comment(&config),
            created: config.created.clone().unwrap_or_default(),
            docker_version: config.docker_version.clone(),
            author: config.author.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
            os: if config.os.is_empty() { "linux".to_owned() } else { config.os.clone() },
            os_version: config.os_version.clone(),
            size: size(image),
            graph_driver: GraphDriver {
                data: (!driver.data.is_empty()).then_some(driver.data),
                name: driver.name,
            },
            root_fs: RootFs {
                r#type: config.rootfs.kind.clone(),
                layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
            },
            metadata: ImageMetadata {
                last_tag_time: image.tagged.clone().unwrap_or_else(|| NEVER.to_owned()),
            },
            descriptor: manifests.then(|| image.target.clone()),
            manifests: manifests.then(|| vec![self.manifest(image)]),
            config: Some(run_config(config.config)),
        })
    }

    /// Names as Docker shows them: tags, and digests of repositories.
    pub(super) fn split_names(&self, image: &Image) -> (Vec<String>, Vec<String>) {
        let (digests, tags): (Vec<Reference>, Vec<Reference>) =
            self.store.names_of(&image.id).into_iter().partition(|name| name.digest().is_some());
        let familiar = |names: Vec<Reference>| names.iter().map(Reference::familiar).collect();
        (familiar(tags), familiar(digests))
    }

    /// The manifest that is unpacked here, as a row under its index.
    pub(super) fn manifest(&self, image: &Image) -> ManifestSummary {
        let content = image.config_size
            + image.manifest.size
            + image.layers.iter().map(|layer| layer.blob.size).sum::<u64>();
        let unpacked = size(image);
        let id = image.id.to_string();
        let containers =
            self.users().into_iter().filter(|user| user.image == id).map(|user| user.container).collect();
        let content = content.try_into().unwrap_or(i64::MAX);
        ManifestSummary {
            id: image.manifest.digest.to_string(),
            descriptor: Some(image.manifest.clone()),
            available: true,
            size: ManifestSize { content, total: content.saturating_add(unpacked) },
            kind: "image".to_owned(),
            image_data: Some(ManifestImageData {
                platform: image.platform.clone(),
                containers,
                size: UnpackedSize { unpacked },
            }),
            attestation_data: None,
        }
    }
}

pub(super) fn size(image: &Image) -> i64 {
    image.size().try_into().unwrap_or(i64::MAX)
}

/// Refuses an image of another platform than the one asked for.
pub(super) fn check_platform(image: &Image, name: &str, wanted: Option<&Platform>) -> Result<()> {
    match wanted {
        Some(wanted) if !image.platform.satisfies(wanted) => Err(Error::not_found(format!(
            "image with reference {name} was found but its platform ({}) does not match the specified platform ({wanted})",
            image.platform
        ))),
        _ => Ok(()),
    }
}

/// Docker shows the last step's comment where the config itself has none.
fn comment(config: &wharf_oci::ImageConfig) -> String {
    if config.comment.is_empty() {
        config.history.last().map(|step| step.comment.clone()).unwrap_or_default()
    } else {
        config.comment.clone()
    }
}

/// The config as documents have it.
pub(super) fn run_config(config: Config) -> ImageRunConfig {
    let set =
        |set: Set| (!set.is_empty()).then(|| set.into_keys().map(|key| (key, wharf_api::Empty {})).collect());
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    ImageRunConfig {
        args_escaped: config.args_escaped,
        cmd: config.cmd,
        entrypoint: config.entrypoint,
        env: list(config.env),
        exposed_ports: set(config.exposed_ports),
        healthcheck: config.healthcheck.map(|check| HealthConfig {
            test: list(check.test),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        labels: (!config.labels.is_empty()).then_some(config.labels),
        on_build: list(config.on_build),
        shell: list(config.shell),
        stop_signal: config.stop_signal,
        user: config.user,
        volumes: set(config.volumes),
        working_dir: config.working_dir,
    }
}
