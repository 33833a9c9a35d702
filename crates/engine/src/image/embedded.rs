//! The image that needs no registry: `hello`, made of the engine's own static binary when it is first asked for.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use jiff::Timestamp;
use wharf_api::JsonMessage;
use wharf_layer::tar::{Entry, Kind, Writer};
use wharf_oci::image::Config;
use wharf_oci::{Digest, History, ImageConfig, Platform, Reference};

use super::Images;
use super::compose::{Draft, finish, keep_layer};
use crate::body::{ByteStream, Progress};
use crate::error::{Error, Result};
use crate::pools::Class;

/// The name it is asked for by.
const NAME: &str = "hello:latest";

impl Images {
    /// Whether `reference` names the embedded image.
    #[must_use]
    pub fn is_embedded(&self, reference: &str) -> bool {
        let wanted: Option<Reference> = NAME.parse().ok();
        reference.parse().is_ok_and(|reference: Reference| Some(reference.with_default_tag()) == wanted)
    }

    /// Makes the embedded image (again), telling as much as a pull would.
    pub async fn pull_embedded(self: &Arc<Self>) -> Result<Progress> {
        let (sender, progress) = ByteStream::channel();
        let images = Arc::clone(self);
        let id = self.pools.run(Class::Images, move || images.make_embedded()).await?;
        for message in [
            JsonMessage::status("latest", "Made from the engine itself: hello"),
            JsonMessage::status("", format!("Digest: {id}")),
            JsonMessage::status("", format!("Status: Downloaded newer image for {NAME}")),
        ] {
            // Nobody is left to tell when the client went away.
            let _ = sender.message(&message).await;
        }
        Ok(progress)
    }

    fn make_embedded(&self) -> Result<Digest> {
        let name: Reference = NAME.parse().map_err(|error| Error::internal(format!("{NAME}: {error}")))?;
        let batch = self.store.batch()?;
        let mut layer =
            layer().map_err(|error| Error::internal(format!("read the engine's own binary: {error}")))?;
        let layer = keep_layer(&batch, &mut layer)?;
        let platform = Platform::host();
        let created = Some(Timestamp::UNIX_EPOCH.to_string());
        let config = ImageConfig {
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            created: created.clone(),
            config: Config {
                entrypoint: Some(vec!["/wharf".into(), "hello".into()]),
                exposed_ports: [("8080/tcp".to_owned(), Default::default())].into(),
                env: vec!["PATH=/".into()],
                ..Config::default()
            },
            history: vec![History { created, created_by: "wharf".into(), ..History::default() }],
            ..ImageConfig::default()
        };
        let image = finish(&batch, Draft { config, layers: vec![layer], parent: None })?;
        let id = image.id;
        batch.commit(vec![image.clone()], vec![(name.clone(), id)])?;
        self.emit("pull", &image, &name.familiar());
        Ok(id)
    }
}

/// The layer's archive: the binary and what programs expect beside it. Its dates are fixed, so that the same binary
/// gives the same image.
fn layer() -> io::Result<impl Read> {
    let binary = File::open("/proc/self/exe")?;
    let size = binary.metadata()?.len();
    let (reader, writer) = io::pipe()?;
    std::thread::spawn(move || {
        // A reader that went away has its own error to tell.
        let _ = write(writer, binary, size);
    });
    Ok(reader)
}

fn write(pipe: impl io::Write, binary: impl Read, size: u64) -> wharf_layer::Result<()> {
    let mut archive = Writer::new(pipe);
    let mut program = Entry::new(Kind::File, "wharf");
    (program.mode, program.size) = (0o755, size);
    archive.append_file(&program, binary)?;
    archive.append(&Entry::new(Kind::Directory, "etc/"))?;
    for (path, text) in [("etc/passwd", "root:x:0:0:root:/:/wharf\n"), ("etc/group", "root:x:0:\n")] {
        let mut file = Entry::new(Kind::File, path);
        file.size = text.len() as u64;
        archive.append_file(&file, text.as_bytes())?;
    }
    let mut temporary = Entry::new(Kind::Directory, "tmp/");
    temporary.mode = 0o1777;
    archive.append(&temporary)?;
    archive.finish().map(drop)
}
