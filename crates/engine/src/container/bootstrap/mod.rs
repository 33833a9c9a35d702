//! A base image straight from a distribution's package archive.
//!
//! The process that works on files runs `debootstrap` and tidies up (`wharf_layer::job::Bootstrap`); here are the
//! archives by name, and the image that comes of it. The same state of an archive gives the same digest: what the image
//! says of itself are that state's date and digest, never today's.

mod archive;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use wharf_api::JsonMessage;
use wharf_layer::job::{Answer, Bootstrap, Job, Release};
use wharf_oci::image::Config;
use wharf_oci::{History, ImageConfig, Platform, Reference};

use super::Containers;
use super::fs_job::Running;
use crate::body::{ByteSender, ByteStream, Progress};
use crate::error::{Error, Result};
use crate::events::Kind;
use crate::image::new_name;
use crate::pools::Class;
use archive::Plan;

/// Programs that `debootstrap` needs to fetch and to verify; it goes on without the second when that is missing.
const NEEDED: [&str; 3] = ["debootstrap", "wget", "gpgv"];
/// Looked through by a daemon that has no path of its own.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `wharf image bootstrap` says.
#[derive(Debug, Clone, Default)]
pub struct BootstrapOptions {
    /// Distribution and suite, which is the name of the image too: `debian:trixie`.
    pub name: String,
    /// Where the archive is, instead of the distribution's own place.
    pub mirror: String,
    /// The moment to take the archive at: `20260912T000000Z`.
    pub snapshot: String,
    /// A file of this machine with the keys that may sign the archive, instead of the distribution's own.
    pub keyring: String,
    /// Packages beside the smallest set.
    pub include: Vec<String>,
}

impl Containers {
    /// Makes a base image; the stream tells how far it is. Whoever drops it gives up, and nothing is kept.
    ///
    /// # Errors
    /// A name that says no distribution and suite, missing programs or keys.
    pub fn bootstrap(self: &Arc<Self>, options: BootstrapOptions) -> Result<Progress> {
        let name = new_name(&options.name, "")?.filter(|_| options.name.contains(':'));
        let name =
            name.ok_or_else(|| Error::invalid("name a distribution and its suite, such as debian:trixie"))?;
        let plan = Plan::new(&name, &options)?;
        let tool = tools()?;
        let (sender, progress) = ByteStream::channel();
        let containers = Arc::clone(self);
        tokio::spawn(async move {
            let (pools, said) = (containers.pools.clone(), sender.clone());
            let work = move || containers.bootstrap_now(&name, &plan, tool, &said);
            let message = match pools.run(Class::Images, work).await {
                Ok(id) => JsonMessage::status("", id),
                Err(error) => JsonMessage::error(error.message()),
            };
            // Nobody is left to tell when the client went away.
            let _ = sender.message(&message).await;
        });
        Ok(progress)
    }

    fn bootstrap_now(
        &self,
        name: &Reference,
        plan: &Plan,
        tool: PathBuf,
        said: &ByteSender,
    ) -> Result<String> {
        // What is in the batch's folder goes with it, also after a crash.
        let batch = self.store.batch()?;
        let job = Job::Bootstrap(Bootstrap {
            tool,
            environment: self.environment(),
            suite: plan.suite.clone(),
            mirror: plan.mirror.clone(),
            keyring: plan.keyring.clone(),
            script: plan.script(),
            include: plan.include.clone(),
            sources: plan.sources(),
            tree: batch.scratch()?,
        });
        let mut running = Running::start(self, &job, &name.familiar(), "/")?;
        let release = loop {
            match running.answer()? {
                Answer::Progress(line) => said.blocking_message(&JsonMessage::status("", line))?,
                Answer::Archive(release) => break release,
                other => return Err(Error::internal(format!("unexpected answer of job: {other:?}"))),
            }
        };
        said.blocking_message(&JsonMessage::status("", "Writing the image..."))?;
        let (config, history) = documents(plan, &release)?;
        let image = self.images.create_from_diff(None, config, history, &mut running, Some(name))?;
        let id = image.id.to_string();
        let about = |name: String| BTreeMap::from([("name".to_owned(), name)]);
        self.events.emit(Kind::Image, "import", &id, about(id.clone()));
        self.events.emit(Kind::Image, "tag", &id, about(name.familiar()));
        Ok(id)
    }

    /// The tool's environment: where programs are, and the proxies that registries are reached by.
    fn environment(&self) -> Vec<(String, String)> {
        let proxies = &self.config.registry;
        let mut environment = vec![("PATH".to_owned(), search_path()), ("LC_ALL".to_owned(), "C".to_owned())];
        for (name, value) in [
            ("http_proxy", &proxies.http_proxy),
            ("https_proxy", &proxies.https_proxy),
            ("no_proxy", &proxies.no_proxy),
        ] {
            if !value.is_empty() {
                environment.push((name.to_owned(), value.clone()));
            }
        }
        environment
    }
}

fn search_path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| USUAL.to_owned())
}

/// Where `debootstrap` is.
fn tools() -> Result<PathBuf> {
    let path = search_path();
    let find =
        |name: &&str| path.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    let missing: Vec<&str> = NEEDED.iter().filter(|name| find(name).is_none()).copied().collect();
    match (missing.as_slice(), find(&NEEDED[0])) {
        ([], Some(tool)) => Ok(tool),
        _ => Err(Error::unavailable(format!(
            "image bootstrap needs {}, which the daemon's machine does not have: install the package{} {0} there",
            missing.join(", "),
            if missing.len() == 1 { "" } else { "s" },
        ))),
    }
}

fn documents(plan: &Plan, release: &Release) -> Result<(ImageConfig, History)> {
    let date = Timestamp::from_second(release.date)
        .map_err(|error| Error::internal(format!("date of the archive: {error}")))?
        .to_string();
    let platform = Platform::host();
    let mut labels = BTreeMap::from([
        ("io.wharf.bootstrap.archive".to_owned(), plan.mirror.clone()),
        ("io.wharf.bootstrap.suite".to_owned(), plan.suite.clone()),
        ("io.wharf.bootstrap.release.date".to_owned(), date.clone()),
        ("io.wharf.bootstrap.release.digest".to_owned(), release.digest.clone()),
    ]);
    if !release.version.is_empty() {
        labels.insert("org.opencontainers.image.version".to_owned(), release.version.clone());
    }
    if !plan.include.is_empty() {
        labels.insert("io.wharf.bootstrap.include".to_owned(), plan.include.join(","));
    }
    let config = ImageConfig {
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        created: Some(date.clone()),
        config: Config {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cmd: Some(vec!["bash".to_owned()]),
            labels,
            ..Config::default()
        },
        ..ImageConfig::default()
    };
    let created_by = format!("debootstrap --variant=minbase {} {}", plan.suite, plan.mirror);
    Ok((config, History { created: Some(date), created_by, ..History::default() }))
}
