//! Builds as `POST /build` asks for them: a tar archive comes in, lines of JSON go out, as the builder before BuildKit
//! wrote them.
//!
//! Underneath it is the same solver: what does not depend on one another runs at the same time, and is told in the
//! Dockerfile's order.

mod client;
mod options;
mod render;

use std::sync::{Arc, PoisonError};

use tokio::sync::mpsc;
use wharf_api::{ErrorDetail, JsonMessage};
use wharf_build::solve::Cancel;

use super::export::{ImageExport, Product, Wishes};
use super::{Build, BuildEvent, BuildFailure, Builds, CacheOptions, Planned, Tell};
use crate::body::{ByteSender, ByteStream, Progress};
use crate::error::{Error, Result};
use crate::pools::Class;

use client::Archive;
pub use options::ClassicOptions;
use render::{Render, Told};

impl Builds {
    /// Builds what `options` say from the archive in `body`; the stream tells of it. Whoever drops it gives up.
    ///
    /// # Errors
    /// Options that make no sense. What goes wrong later is told in the stream.
    pub fn classic(self: &Arc<Self>, options: ClassicOptions, body: ByteStream) -> Result<Progress> {
        options.check()?;
        let (sender, progress) = ByteStream::channel();
        let cancel = Arc::new(Cancel::default());
        let named = self.cancelable(&options.build_id, &cancel);
        let builds = self.clone();
        tokio::spawn(async move {
            let gone = sender.clone();
            let work = builds.run_classic(options, body, sender, cancel.clone());
            tokio::pin!(work);
            tokio::select! {
                () = &mut work => {}
                () = gone.closed() => {
                    cancel.cancel();
                    work.await;
                }
            }
            drop(named);
        });
        Ok(progress)
    }

    /// Ends the build that was given this id; one that is not there needs no end.
    pub fn cancel(&self, id: &str) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = running.get(id).and_then(std::sync::Weak::upgrade) {
            cancel.cancel();
        }
    }

    /// Lets [`Self::cancel`] end a build by the id that its client gave it, until the result is dropped.
    pub fn cancelable(self: &Arc<Self>, id: &str, cancel: &Arc<Cancel>) -> Cancelable {
        if !id.is_empty() {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.insert(id.to_owned(), Arc::downgrade(cancel));
        }
        Cancelable { builds: self.clone(), id: id.to_owned() }
    }

    async fn run_classic(
        self: &Arc<Self>,
        options: ClassicOptions,
        body: ByteStream,
        sender: ByteSender,
        cancel: Arc<Cancel>,
    ) {
        let (told, hear) = mpsc::unbounded_channel();
        let render = tokio::spawn(Render::new(sender.clone(), options.quiet).run(hear));
        let done = self.made(options, body, cancel, &told).await;
        let end = match done {
            Ok(end) => Told::End(end),
            Err(failure) => Told::Failed(failure),
        };
        // The other end listens until this comes.
        let _ = told.send(end);
        match render.await {
            Ok(Some(error)) => sender.fail(error).await,
            Ok(None) => {}
            Err(error) => tracing::error!("render a build: {error}"),
        }
    }

    async fn made(
        self: &Arc<Self>,
        options: ClassicOptions,
        body: ByteStream,
        cancel: Arc<Cancel>,
        told: &mpsc::UnboundedSender<Told>,
    ) -> Result<Vec<JsonMessage>, BuildFailure> {
        let (builds, remote) = (self.clone(), !options.remote.is_empty());
        let credentials = options.credentials.clone();
        let archive = move || Archive::receive(&builds.places(), credentials, (!remote).then_some(body));
        let archive = self.containers.pools.run(Class::Files, archive).await?;
        let teller = told.clone();
        let tell: Tell = Arc::new(move |event: BuildEvent| {
            // Nobody listens any more to a build that was given up.
            let _ = teller.send(Told::Event(event));
        });
        let build = self.begin(Arc::new(archive), tell, cancel);
        build.import_from(options.caches.iter().map(|name| CacheOptions::registry(name)).collect());
        let request = options.request();
        build.expect_image(Wishes::default().epoch);
        let planned = build.plan(request.clone()).await.map_err(options::refused)?;
        let Some(planned) = planned.into_iter().next() else {
            return Err(Error::internal("nothing was planned").into());
        };
        let _ = told.send(Told::Steps(render::steps(&build, &planned)));
        if render::is_empty(&planned) {
            let message = "No image was generated. Is your Dockerfile empty?";
            return Err(Error::internal(message).into());
        }
        let unused = options.unused(&planned);
        let solved = build.solve(planned, &request).await?;
        let wishes = Wishes { inline_cache: options.inline_cache(), ..Wishes::default() };
        let export = ImageExport { names: options.names.clone(), wishes, push: false };
        let exporting = build.clone();
        let made = build.sleeping(move |_| exporting.export_image(&[Product::from(solved)], &export)).await?;
        Ok(options.last_words(&made.id.to_string(), &unused))
    }
}

/// A build that can be ended by its id.
#[derive(Debug)]
pub struct Cancelable {
    builds: Arc<Builds>,
    id: String,
}

impl Drop for Cancelable {
    fn drop(&mut self) {
        self.builds.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// A message that ends a stream.
fn error_message(code: i64, message: &str) -> JsonMessage {
    JsonMessage {
        error: message.to_owned(),
        error_detail: Some(ErrorDetail { code, message: message.to_owned() }),
        ..JsonMessage::default()
    }
}

fn stream_message(text: impl Into<String>) -> JsonMessage {
    JsonMessage { stream: text.into(), ..JsonMessage::default() }
}

impl Build {
    /// The names that arguments are declared under, anywhere in a Dockerfile.
    fn declares(planned: &Planned, name: &str) -> bool {
        use wharf_build::dockerfile::Instruction;
        let above = planned.dockerfile.arguments.iter().flat_map(|located| &located.item);
        let inside = planned.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let inside = inside.filter_map(|located| match &located.item {
            Instruction::Arg(arguments) => Some(arguments),
            _ => None,
        });
        above.chain(inside.flatten()).any(|argument| argument.name == name)
    }
}
