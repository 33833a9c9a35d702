//! What comes out of a build, by the exporters that its request names.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::Exporter as Named;
use jiff::Timestamp;
use tonic::Status;
use wharf_engine::build::export::{Exporter, Product};
use wharf_engine::build::{Build, BuildFailure};
use wharf_engine::{Error, ErrorKind};
use wharf_oci::{ImageConfig, Platform};

use super::error;
use super::frontend::{Answer, sorted};
use super::session::Session;
use super::session::send::{self, Output};
use super::solve::{Made, Outcome, Solving};

/// The store of a client that takes the blobs of an image that is wanted as a directory.
const LOOSE: &str = "export";

/// What a client is told of what came out.
pub(super) type Response = HashMap<String, String>;

/// Exports a result as its request says.
pub(super) async fn all(
    solving: &Arc<Solving>,
    products: &Arc<Vec<Product>>,
    inline_cache: bool,
) -> Result<Response, Status> {
    let frontend = sorted(&solving.attributes());
    let mut response = Response::new();
    for (number, named) in exporters(solving).iter().enumerate() {
        let attributes = sorted(&named.attrs);
        let mut exporter =
            Exporter::parse(&named.r#type, &attributes, &frontend).map_err(|error| error::plain(&error))?;
        if let (true, Some(wishes)) = (inline_cache, exporter.wishes_mut()) {
            wishes.inline_cache = true;
        }
        let said =
            one(solving, products, exporter, number).await.map_err(|failure| error::status(&failure))?;
        response.extend(said);
    }
    Ok(response)
}

/// Tells a build that is about to begin what will become of its result. What is wrong with an exporter is met later.
pub(super) fn announce(solving: &Solving) {
    let frontend = sorted(&solving.attributes());
    for named in exporters(solving) {
        let exporter = Exporter::parse(&named.r#type, &sorted(&named.attrs), &frontend);
        if let Some(wishes) = exporter.ok().as_mut().and_then(Exporter::wishes_mut) {
            solving.build.expect_image(wishes.epoch);
        }
    }
}

/// The exporters of a request, older clients' too.
fn exporters(solving: &Solving) -> Vec<Named> {
    let request = &solving.request;
    if request.exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        let (r#type, attrs) =
            (request.exporter_deprecated.clone(), request.exporter_attrs_deprecated.clone());
        return vec![Named { r#type, attrs }];
    }
    request.exporters.clone()
}

async fn one(
    solving: &Arc<Solving>,
    products: &Arc<Vec<Product>>,
    exporter: Exporter,
    number: usize,
) -> Result<BTreeMap<String, String>, BuildFailure> {
    let (build, products) = (solving.build.clone(), products.clone());
    let output = Output { number, ..Output::default() };
    match exporter {
        Exporter::Image(export) => {
            let made = sleeping(move || build.export_image(&products, &export)).await?;
            Ok(made.response)
        }
        Exporter::Archive(export) if export.loose => {
            let made = sleeping(move || build.export_blobs(&products, &export, LOOSE)).await?;
            Ok(made.response)
        }
        Exporter::Archive(export) => {
            let session = session(solving)?;
            let written =
                send::file(&session, &output, move |writer| build.export_archive(&products, &export, writer));
            Ok(sent(written.await)?.response)
        }
        Exporter::Tar(export) => {
            let session = session(solving)?;
            let written =
                send::file(&session, &output, move |writer| build.export_tar(&products, &export, writer));
            sent(written.await).map(|()| BTreeMap::new())
        }
        Exporter::Local(export) => {
            let session = session(solving)?;
            let parts = sleeping({
                let build = build.clone();
                move || build.parts(&products, &export)
            });
            let parts = parts.await?;
            local(&build, &session, &output, parts).await.map(|()| BTreeMap::new())
        }
        Exporter::CacheOnly => Ok(BTreeMap::new()),
    }
}

async fn local(
    build: &Arc<Build>,
    session: &Arc<Session>,
    output: &Output,
    parts: Vec<wharf_engine::build::export::Part>,
) -> Result<(), BuildFailure> {
    let (build, session, output) = (build.clone(), session.clone(), output.clone());
    let runtime = tokio::runtime::Handle::current();
    sleeping(move || {
        build.step("exporting to client directory", |step| {
            let started = Timestamp::now();
            let progress = |bytes, done| step.status("copying files", bytes, 0, started, done);
            runtime.block_on(send::tree(&session, &output, parts, progress)).map_err(failed)
        })
    })
    .await
}

fn session(solving: &Solving) -> Result<Arc<Session>, BuildFailure> {
    let session = solving.asked.own_session();
    session.ok_or_else(|| failed("could not access local files without session".to_owned()))
}

fn failed(why: String) -> BuildFailure {
    BuildFailure::new(ErrorKind::Internal, why)
}

fn sent<T>(written: Result<Result<T, BuildFailure>, String>) -> Result<T, BuildFailure> {
    written.unwrap_or_else(|why| Err(failed(why)))
}

pub(super) async fn sleeping<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildFailure> + Send + 'static,
) -> Result<T, BuildFailure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(failed(format!("export worker: {error}"))))
}

/// Results as exporters take them.
pub(super) fn products(answer: &Answer) -> Result<Arc<Vec<Product>>, Status> {
    let products = answer.results.iter().map(|(platform, outcome)| product(platform, outcome, answer));
    products.collect::<Result<Vec<_>, Error>>().map(Arc::new).map_err(|error| error::plain(&error))
}

/// A result as exporters take it; what its client says of the image counts before what the Dockerfile said.
fn product(platform: &Platform, outcome: &Outcome, answer: &Answer) -> Result<Product, Error> {
    let given = answer
        .metadata
        .get(&format!("containerimage.config/{platform}"))
        .or_else(|| answer.metadata.get("containerimage.config"));
    match &outcome.made {
        Made::Image(solved) => Ok(Product::from((**solved).clone())),
        Made::Files { tree, .. } => {
            let config: ImageConfig = match given {
                Some(config) => serde_json::from_slice(config)
                    .map_err(|error| Error::invalid(format!("failed to parse image config: {error}")))?,
                None => ImageConfig {
                    architecture: platform.architecture.clone(),
                    os: platform.os.clone(),
                    variant: platform.variant.clone(),
                    ..ImageConfig::default()
                },
            };
            Ok(Product {
                platform: platform.clone(),
                tree: tree.clone(),
                config,
                plan: None,
                file: None,
                materials: Vec::new(),
            })
        }
    }
}
