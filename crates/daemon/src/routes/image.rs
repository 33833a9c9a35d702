//! Images.

use hyper::StatusCode;
use wharf_api::shape::Document;
use wharf_engine::container::bootstrap::BootstrapOptions;
use wharf_engine::image::{ImportOptions, ListOptions, PullOptions, PushOptions};
use wharf_engine::{Error, Result};
use wharf_oci::Platform;

use crate::http::answer::{self, Answer, JSON, TAR};
use crate::http::call::Call;
use crate::routes::absent::not_available;

pub(crate) async fn list(call: Call) -> Result<Answer> {
    let query = &call.query;
    let mut filters = query.filters()?;
    if !call.version.at_least(41) && !query.get("filter").is_empty() {
        filters.add("reference", query.get("filter"));
    }
    let options = ListOptions {
        all: query.flag("all"),
        shared_size: call.version.at_least(42) && query.flag("shared-size"),
        manifests: call.version.at_least(47) && query.flag("manifests"),
        filters,
    };
    let list = call.engine().images.list(options).await?;
    answer::shaped(Document::ImageList, &list, call.version)
}

pub(crate) async fn inspect(call: Call) -> Result<Answer> {
    let manifests = call.version.at_least(48) && call.query.flag("manifests");
    let platform = platform_since(&call, 49)?;
    if manifests && platform.is_some() {
        return Err(Error::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let found = call.engine().images.inspect(call.id(), manifests, platform).await?;
    answer::shaped(Document::ImageInspect, &found, call.version)
}

pub(crate) async fn history(call: Call) -> Result<Answer> {
    let platform = platform_since(&call, 48)?;
    answer::json(&call.engine().images.history(call.id(), platform).await?)
}

pub(crate) async fn attestations(_call: Call) -> Result<Answer> {
    Err(not_available("attestations"))
}

pub(crate) async fn tag(call: Call) -> Result<Answer> {
    call.engine().images.tag(call.id(), call.query.get("repo"), call.query.get("tag")).await?;
    Ok(answer::empty(StatusCode::CREATED))
}

pub(crate) async fn remove(call: Call) -> Result<Answer> {
    let query = &call.query;
    let platforms = platforms(&call, "platforms", 50)?;
    let images = &call.engine().images;
    if call.id().trim().is_empty() {
        return Err(Error::invalid("image name cannot be blank"));
    }
    let done = images.remove(call.id(), query.flag("force"), query.flag("noprune"), &platforms).await?;
    answer::json(&done)
}

pub(crate) async fn prune(call: Call) -> Result<Answer> {
    let filters = call.query.filters()?;
    answer::json(&call.engine().images.prune(filters).await?)
}

pub(crate) async fn load(call: Call) -> Result<Answer> {
    let platforms = platforms(&call, "platform", 48)?;
    // Without progress bars the client asks for none, but for what was loaded.
    let (app, quiet) = (call.app.clone(), call.query.flag_or("quiet", true));
    let progress = app.engine.images.load(call.into_stream(), quiet, platforms).await?;
    answer::checked_stream(JSON, progress).await
}

pub(crate) async fn save(call: Call) -> Result<Answer> {
    let tar = call.engine().images.save(&[call.id().to_owned()], &platforms(&call, "platform", 48)?).await?;
    answer::checked_stream(TAR, tar).await
}

pub(crate) async fn save_many(call: Call) -> Result<Answer> {
    let tar = call.engine().images.save(&call.query.all("names"), &platforms(&call, "platform", 48)?).await?;
    answer::checked_stream(TAR, tar).await
}

/// A pull (`fromImage`) or an import (`fromSrc`).
pub(crate) async fn create(call: Call) -> Result<Answer> {
    let query = &call.query;
    if !query.get("fromImage").is_empty() {
        return pull(call).await;
    }
    let source = query.get("fromSrc").to_owned();
    if source.is_empty() {
        return Err(Error::invalid("neither fromImage nor fromSrc is given"));
    }
    let platform = platform_text(&call)?;
    let options = ImportOptions {
        repository: query.get("repo").to_owned(),
        tag: query.get("tag").to_owned(),
        message: query.get("message").to_owned(),
        changes: query.all("changes"),
        platform,
    };
    let app = call.app.clone();
    let images = &app.engine.images;
    let progress = match source.as_str() {
        "-" => images.import(options, call.into_stream()).await?,
        address => images.import_from(options, address).await?,
    };
    answer::checked_stream(JSON, progress).await
}

async fn pull(call: Call) -> Result<Answer> {
    let (name, tag) = (call.query.get("fromImage"), call.query.get("tag"));
    let images = &call.engine().images;
    let whole = if tag.is_empty() { name.to_owned() } else { format!("{name}:{tag}") };
    if images.is_embedded(&whole) {
        return answer::checked_stream(JSON, images.pull_embedded().await?).await;
    }
    let options = PullOptions::parse(name, tag, platform_text(&call)?, call.credentials())?;
    answer::checked_stream(JSON, images.pull(options).await?).await
}

/// Wharf's own: a base image from a distribution's archive.
pub(crate) async fn bootstrap(call: Call) -> Result<Answer> {
    let query = &call.query;
    let include = query.get("include").split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    let options = BootstrapOptions {
        name: query.get("name").to_owned(),
        mirror: query.get("mirror").to_owned(),
        snapshot: query.get("snapshot").to_owned(),
        keyring: query.get("keyring").to_owned(),
        include: include.collect(),
    };
    answer::checked_stream(JSON, call.engine().containers.bootstrap(options)?).await
}

pub(crate) async fn push(mut call: Call) -> Result<Answer> {
    // Docker's client sends an empty document of its own packet: an answer that comes before it would break its write.
    call.bytes(1 << 20).await?;
    let platform = platform_since(&call, 46)?;
    let options = PushOptions::parse(call.id(), call.query.get("tag"), platform, call.credentials())?;
    answer::checked_stream(JSON, call.engine().images.push(options).await?).await
}

pub(crate) async fn search(call: Call) -> Result<Answer> {
    if call.query.get("term").is_empty() {
        return Err(Error::invalid("no search term given"));
    }
    let limit = match call.query.get("limit") {
        "" => None,
        text => Some(text.parse().map_err(|_| Error::invalid(format!("invalid limit: {text}")))?),
    };
    let filters = call.query.filters()?;
    answer::json(&call.engine().images.search(call.query.get("term"), limit, &filters).await?)
}

pub(crate) async fn distribution(call: Call) -> Result<Answer> {
    answer::json(&call.engine().images.distribution(call.id(), call.credentials()).await?)
}

/// A platform as text, `linux/arm64`.
fn platform_text(call: &Call) -> Result<Option<Platform>> {
    match call.query.get("platform") {
        "" => Ok(None),
        _ if !call.version.at_least(32) => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|error: wharf_oci::platform::PlatformError| Error::invalid(error.to_string())),
    }
}

/// A platform as JSON, which queries carry from `minor` on.
fn platform_since(call: &Call, minor: u16) -> Result<Option<Platform>> {
    match call.query.get("platform") {
        "" => Ok(None),
        _ if !call.version.at_least(minor) => Ok(None),
        text => decode(text).map(Some),
    }
}

/// Platforms as JSON, which the queries of API 1.`minor` and later carry.
fn platforms(call: &Call, name: &str, minor: u16) -> Result<Vec<Platform>> {
    if !call.version.at_least(minor) {
        return Ok(Vec::new());
    }
    call.query.all(name).iter().filter(|text| !text.is_empty()).map(|text| decode(text)).collect()
}

fn decode(text: &str) -> Result<Platform> {
    let platform: Platform = serde_json::from_str(text)
        .map_err(|error| Error::invalid(format!("failed to parse platform: {error}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Error::invalid("both OS and Architecture must be provided"));
    }
    Ok(platform)
}
