//! `wharf cp`.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use wharf_api::PathStat;
use wharf_api::client::{Body, Client, ClientError, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::CliError;

/// Go's `os.FileMode` bits.
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;

#[derive(Debug, clap::Args)]
pub(crate) struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "CONTAINER:SRC_PATH|SRC_PATH|-")]
    from: String,
    #[arg(value_name = "DEST_PATH|-|CONTAINER:DEST_PATH")]
    to: String,
}

impl Cp {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        match (split(&self.from), split(&self.to)) {
            (Some((container, path)), None) => self.outward(&client, container, path).await,
            (None, Some((container, path))) => self.inward(&client, container, path).await,
            (Some(_), Some(_)) => Err(CliError::new("copying between containers is not supported")),
            (None, None) => Err(CliError::new("must specify at least one container source")),
        }
    }

    async fn outward(&self, client: &Client, container: &str, path: &str) -> Outcome {
        let mut path = path.to_owned();
        if self.follow_link
            && let Some(stat) = stat(client, container, &path).await?
            && stat.mode & SYMLINK != 0
        {
            let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
            path = folder.join(&stat.link_target).to_string_lossy().into_owned();
        }
        let target = format!("/containers/{}/archive?path={}", escape(container), escape(&path));
        let answer = client.send(Method::GET, &target, Body::Empty, &[]).await?;
        let reader = reader(answer.into_body());
        if self.to == "-" {
            let copied =
                tokio::task::spawn_blocking(move || std::io::copy(&mut { reader }, &mut std::io::stdout()));
            copied.await.map_err(|error| CliError::new(error.to_string()))??;
            return Ok(0);
        }
        let destination = PathBuf::from(&self.to);
        let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.exists()) {
            return Err(CliError::new(format!(
                "invalid output path: directory \"{}\" does not exist",
                parent.display()
            )));
        }
        let content = path.ends_with("/.") || path == ".";
        let slash = self.to.ends_with('/');
        let unpacked = tokio::task::spawn_blocking(move || unpack(reader, &destination, content, slash));
        unpacked.await.map_err(|error| CliError::new(error.to_string()))??;
        Ok(0)
    }

    async fn inward(&self, client: &Client, container: &str, path: &str) -> Outcome {
        let (folder, body) = if self.from == "-" {
            (path.to_owned(), super::load::send(None)?)
        } else {
            let source =
                if self.follow_link { std::fs::canonicalize(&self.from)? } else { PathBuf::from(&self.from) };
            let meta = std::fs::symlink_metadata(&source).map_err(|error| {
                CliError::new(format!("lstat {}: {}", source.display(), crate::error::reason(&error)))
            })?;
            let (folder, name) =
                placement(client, container, path, &source, &self.from, meta.is_dir()).await?;
            (folder, pack(source, name))
        };
        let copy = if self.archive { "&copyUIDGID=true" } else { "" };
        let target = format!(
            "/containers/{}/archive?path={}&noOverwriteDirNonDir=true{copy}",
            escape(container),
            escape(&folder)
        );
        client.send(Method::PUT, &target, body, &[]).await?;
        Ok(0)
    }
}

/// `CONTAINER:PATH`; a path with a slash or dot first is local.
fn split(text: &str) -> Option<(&str, &str)> {
    if text == "-" || text.starts_with('/') || text.starts_with('.') {
        return None;
    }
    text.split_once(':').filter(|(container, _)| !container.is_empty())
}

async fn stat(client: &Client, container: &str, path: &str) -> Result<Option<PathStat>, CliError> {
    let target = format!("/containers/{}/archive?path={}", escape(container), escape(path));
    match client.send(Method::HEAD, &target, Body::Empty, &[]).await {
        Ok(answer) => {
            let header = answer
                .headers()
                .get("x-docker-container-path-stat")
                .ok_or_else(|| CliError::new("the daemon sent no path stat"))?;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(header.as_bytes())
                .map_err(|error| CliError::new(error.to_string()))?;
            Ok(Some(wharf_api::from_slice(&bytes).map_err(|error| CliError::new(error.to_string()))?))
        }
        // An answer to HEAD has no text: the parent of the destination is taken to be there.
        Err(ClientError::Api { message, .. }) if message.is_empty() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The folder to unpack in and the name the source gets there.
async fn placement(
    client: &Client,
    container: &str,
    path: &str,
    source: &Path,
    given: &str,
    is_folder: bool,
) -> Result<(String, Option<PathBuf>), CliError> {
    let content = given.ends_with("/.") || given == ".";
    let base = || source.file_name().map(PathBuf::from);
    let mut path = path.to_owned();
    let mut found = stat(client, container, &path).await?;
    if let Some(link) = found.as_ref().filter(|found| found.mode & SYMLINK != 0) {
        let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
        path = folder.join(&link.link_target).to_string_lossy().into_owned();
        found = stat(client, container, &path).await?;
    }
    match found {
        Some(found) if found.mode & DIRECTORY != 0 => Ok((path, if content { None } else { base() })),
        Some(_) if is_folder => Err(CliError::new("cannot copy directory")),
        None if path.ends_with('/') && !is_folder => Err(CliError::new("no such directory")),
        _ => {
            let clean = path.trim_end_matches('/');
            let at = clean.rfind('/').unwrap_or(0);
            let name = clean[at..].trim_start_matches('/');
            Ok((if at == 0 { "/".to_owned() } else { clean[..at].to_owned() }, Some(name.into())))
        }
    }
}

/// Packs a file or folder under `name` (`None`: its content alone) in a thread of its own.
fn pack(source: PathBuf, name: Option<PathBuf>) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    std::thread::spawn(move || {
        let mut tar = tar::Builder::new(Sink(sender));
        tar.follow_symlinks(false);
        let name = name.unwrap_or_else(|| ".".into());
        let packed = if source.is_dir() && !source.is_symlink() {
            tar.append_dir_all(&name, &source)
        } else {
            tar.append_path_with_name(&source, &name)
        };
        // A daemon that refused has hung up; its answer says why.
        let _ = packed.and_then(|()| tar.finish());
    });
    Body::Stream(receiver)
}

struct Sink(tokio::sync::mpsc::Sender<Bytes>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.blocking_send(Bytes::copy_from_slice(bytes)).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An answer's body as a blocking reader.
fn reader(mut body: hyper::body::Incoming) -> impl Read + Send + 'static {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Bytes>(8);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(bytes) = frame.into_data() else { continue };
            let sender = sender.clone();
            if tokio::task::spawn_blocking(move || sender.send(bytes)).await.is_ok_and(|sent| sent.is_ok()) {
                continue;
            }
            return;
        }
    });
    Source { receiver, rest: Bytes::new() }
}

struct Source {
    receiver: std::sync::mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.recv() {
                Ok(bytes) => self.rest = bytes,
                Err(_) => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// Unpacks what came from the container. Every entry lies under the source's own name, which is replaced by the
/// destination's; an entry that would leave it is refused.
fn unpack(reader: impl Read, destination: &Path, content: bool, slash: bool) -> Result<(), CliError> {
    let into = destination.is_dir();
    if slash && !into {
        return Err(CliError::new("no such directory"));
    }
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let inside = entry.path()?.into_owned();
        let safe = inside.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !safe {
            return Err(CliError::new(format!("refused: the archive names {}", inside.display())));
        }
        // The first part is the source's own name, or `.` for the content of a folder.
        let mut parts = inside.components();
        let first = parts
            .next()
            .filter(|part| *part != Component::CurDir)
            .map_or(OsStr::new(""), Component::as_os_str);
        let rest = parts.as_path();
        let base = match (into, content) {
            (true, false) => destination.join(first),
            _ => destination.to_owned(),
        };
        let target = if rest.as_os_str().is_empty() { base } else { base.join(rest) };
        if through_link(destination, &target) {
            return Err(CliError::new(format!(
                "refused: {} lies behind a link of the archive's own",
                target.display()
            )));
        }
        let missing =
            target.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && !parent.exists());
        if missing {
            return Err(CliError::new(format!(
                "invalid output path: directory \"{}\" does not exist",
                target.parent().unwrap_or(&target).display()
            )));
        }
        if entry.header().entry_type().is_dir() && target == destination && target.exists() && !into {
            return Err(CliError::new("cannot copy directory"));
        }
        if entry.header().entry_type().is_dir() && target.is_dir() {
            continue;
        }
        entry.unpack(&target)?;
    }
    Ok(())
}

/// Whether a folder between `base` and `target` is a symbolic link.
fn through_link(base: &Path, target: &Path) -> bool {
    let Ok(rest) = target.strip_prefix(base) else { return false };
    let mut path = base.to_owned();
    let parts: Vec<_> = rest.components().collect();
    parts.iter().take(parts.len().saturating_sub(1)).any(|part| {
        path.push(part);
        path.is_symlink()
    })
}
