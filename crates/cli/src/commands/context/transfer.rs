//! `context export` and `import`: a context as a tar archive, `meta.json` and what is in its `tls` folder.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path};

use serde_json::Value;

use crate::commands::Outcome;
use crate::connect::Target;
use crate::contexts;
use crate::error::{CliError, print, say};

/// No archive of a context is larger, in bytes.
const LARGEST: u64 = 10 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[arg(value_name = "CONTEXT")]
    name: String,
    #[arg(value_name = "FILE|-")]
    file: Option<String>,
}

impl Export {
    pub(super) async fn run(self, target: &Target) -> Outcome {
        let config = target.config_folder();
        let document = contexts::document(&config, &self.name)?;
        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, "meta.json", 0o644, &serde_json::to_vec(&document)?)?;
        let mut folder = header(tar::EntryType::Directory, 0o700, 0);
        archive.append_data(&mut folder, "tls/", std::io::empty())?;
        let kept = contexts::tls_folder(&config, &self.name).join("docker");
        for entry in std::fs::read_dir(kept).into_iter().flatten().flatten() {
            let name = format!("tls/docker/{}", entry.file_name().to_string_lossy());
            add(&mut archive, &name, 0o600, &std::fs::read(entry.path())?)?;
        }
        let bytes = archive.into_inner()?;
        let path = self.file.unwrap_or_else(|| format!("{}.dockercontext", self.name));
        if path == "-" {
            std::io::stdout().write_all(&bytes)?;
            return Ok(0);
        }
        use std::os::unix::fs::OpenOptionsExt;
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = made.map_err(|error| CliError::from(error).within(&format!("open {path}")))?;
        file.write_all(&bytes)?;
        say(&format!("Written file \"{path}\""));
        Ok(0)
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn add(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    archive.append_data(&mut header(tar::EntryType::Regular, mode, bytes.len() as u64), name, bytes)
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    #[arg(value_name = "CONTEXT")]
    name: String,
    #[arg(value_name = "FILE|-")]
    file: String,
}

impl Import {
    pub(super) async fn run(self, target: &Target) -> Outcome {
        let config = target.config_folder();
        contexts::check_name(&self.name)?;
        if contexts::read(&config, &self.name).is_ok() {
            return Err(CliError::new(format!("context \"{}\" already exists", self.name)));
        }
        let input: Box<dyn Read> = match self.file.as_str() {
            "-" => Box::new(std::io::stdin()),
            path => Box::new(
                File::open(path).map_err(|error| CliError::from(error).within(&format!("open {path}")))?,
            ),
        };
        let Archive { mut document, certificates } = Archive::read(input.take(LARGEST))?;
        document["Name"] = Value::String(self.name.clone());
        contexts::write(&config, &self.name, &document)?;
        let folder = contexts::tls_folder(&config, &self.name).join("docker");
        for (name, bytes) in certificates {
            use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(folder.join(name));
            file?.write_all(&bytes)?;
        }
        print(&self.name)?;
        say(&format!("Successfully imported context \"{}\"", self.name));
        Ok(0)
    }
}

/// What an archive holds.
struct Archive {
    document: Value,
    /// File name and content.
    certificates: Vec<(String, Vec<u8>)>,
}

impl Archive {
    fn read(input: impl Read) -> Result<Self, CliError> {
        let (mut document, mut certificates) = (None, Vec::new());
        for entry in tar::Archive::new(input).entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path()?.into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if path == Path::new("meta.json") {
                document = Some(serde_json::from_slice(&bytes)?);
            } else if let Some(name) = certificate(&path) {
                certificates.push((name, bytes));
            } else {
                return Err(CliError::new(format!("{}: unexpected context file", path.display())));
            }
        }
        let document = document.ok_or_else(|| CliError::new("invalid context: no metadata found"))?;
        Ok(Self { document, certificates })
    }
}

/// The name of a file right below `tls/docker`.
fn certificate(path: &Path) -> Option<String> {
    let mut parts = path.strip_prefix("tls/docker").ok()?.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => name.to_str().map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_elsewhere_are_refused() {
        assert_eq!(certificate(Path::new("tls/docker/ca.pem")).as_deref(), Some("ca.pem"));
        for odd in ["tls/docker/../x", "tls/docker/a/b", "tls/ca.pem", "/tls/docker/x", "tls/docker"] {
            assert_eq!(certificate(Path::new(odd)), None, "{odd}");
        }
        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, "elsewhere", 0o600, b"x").unwrap();
        let error = Archive::read(&archive.into_inner().unwrap()[..]).err().unwrap();
        assert_eq!(error.message(), "elsewhere: unexpected context file");
    }
}
