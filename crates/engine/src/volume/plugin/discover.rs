//! Where plugins are: sockets and files that name addresses, in Docker's directories.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// How a plugin is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::volume) enum Address {
    /// A socket's path.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String),
}

/// The directories that are looked at.
#[derive(Debug)]
pub(super) struct Places {
    /// Of sockets: `NAME.sock` or `NAME/NAME.sock`.
    sockets: Vec<PathBuf>,
    /// Of `NAME.spec` and `NAME.json`, which name an address.
    files: Vec<PathBuf>,
}

/// A plugin as a `.json` file describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    addr: String,
    #[serde(default, rename = "TLSConfig")]
    tls: Option<serde_json::Value>,
}

impl Places {
    /// Docker's directories, and the sockets of one's own.
    pub(super) fn standard(own: &Path) -> Self {
        Self {
            sockets: vec![PathBuf::from("/run/docker/plugins"), own.to_owned()],
            files: ["/etc/docker/plugins", "/usr/lib/docker/plugins"].map(PathBuf::from).to_vec(),
        }
    }

    /// The plugin of a name; none where there is none.
    ///
    /// # Errors
    /// What is wrong with the file that describes it.
    pub(super) fn find(&self, name: &str) -> Result<Option<Address>, String> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Ok(None);
        }
        let is_socket =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
        let socket = self.sockets.iter().flat_map(|place| paths(place, name, "sock")).find(is_socket);
        if let Some(path) = socket {
            return Ok(Some(Address::Unix(path)));
        }
        let file = self
            .files
            .iter()
            .flat_map(|place| ["spec", "json"].into_iter().flat_map(|kind| paths(place, name, kind)))
            .find(|path| path.exists());
        file.map(|path| read(&path)).transpose()
    }

    /// The names of all plugins.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for (places, kinds) in [(&self.sockets, &["sock"][..]), (&self.files, &["spec", "json"])] {
            for entry in places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten() {
                let path = entry.path();
                let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
                let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
                let inside = || kinds.iter().any(|kind| path.join(format!("{stem}.{kind}")).exists());
                if kinds.contains(&kind) || (kind.is_empty() && inside()) {
                    names.insert(stem.to_owned());
                }
            }
        }
        names.into_iter().collect()
    }
}

fn paths(place: &Path, name: &str, kind: &str) -> [PathBuf; 2] {
    let file = format!("{name}.{kind}");
    [place.join(&file), place.join(name).join(file)]
}

fn read(path: &Path) -> Result<Address, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    if path.extension().is_some_and(|kind| kind == "json") {
        let described: Described =
            serde_json::from_str(&text).map_err(|error| format!("read {}: {error}", path.display()))?;
        if described.tls.is_some_and(|tls| !tls.is_null()) {
            return Err(format!("{}: plugins over TLS are not supported", path.display()));
        }
        return parse(described.addr.trim());
    }
    parse(text.trim())
}

fn parse(address: &str) -> Result<Address, String> {
    match address.split_once("://") {
        Some(("unix", path)) => Ok(Address::Unix(PathBuf::from(path))),
        Some(("tcp" | "http", host)) => Ok(Address::Tcp(host.trim_end_matches('/').to_owned())),
        _ => Err(format!("unknown protocol in the plugin's address {address:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_come_before_files_and_may_lie_deeper() {
        let dir = tempfile::tempdir().unwrap();
        let (sockets, files) = (dir.path().join("run"), dir.path().join("etc"));
        fs::create_dir_all(sockets.join("deep")).unwrap();
        fs::create_dir_all(&files).unwrap();
        let places = Places { sockets: vec![sockets.clone()], files: vec![files.clone()] };
        assert_eq!(places.find("a"), Ok(None));
        fs::write(files.join("a.spec"), "tcp://localhost:8080\n").unwrap();
        assert_eq!(places.find("a"), Ok(Some(Address::Tcp("localhost:8080".to_owned()))));
        let _listening = UnixListener::bind(sockets.join("a.sock")).unwrap();
        assert_eq!(places.find("a"), Ok(Some(Address::Unix(sockets.join("a.sock")))));
        let _deep = UnixListener::bind(sockets.join("deep/deep.sock")).unwrap();
        assert_eq!(places.find("deep"), Ok(Some(Address::Unix(sockets.join("deep/deep.sock")))));
        fs::write(files.join("b.json"), r#"{"Name":"b","Addr":"unix:///x/b.sock"}"#).unwrap();
        assert_eq!(places.find("b"), Ok(Some(Address::Unix(PathBuf::from("/x/b.sock")))));
        assert_eq!(places.names(), ["a", "b", "deep"]);
        fs::write(files.join("c.json"), r#"{"Name":"c","Addr":"https://h","TLSConfig":{}}"#).unwrap();
        assert!(places.find("c").unwrap_err().contains("TLS"));
        fs::write(files.join("d.spec"), "nonsense").unwrap();
        assert!(places.find("d").unwrap_err().contains("unknown protocol"));
        for name in ["", "../a", ".a", "x/a"] {
            assert_eq!(places.find(name), Ok(None));
        }
    }
}
