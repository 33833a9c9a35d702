//! All devices that the files of some directories name.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::document::{Document, Edits};

/// Vendors' files are some kilobytes.
const LARGEST: u64 = 4 << 20;

/// The devices of the machine.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    documents: Vec<Document>,
    /// By qualified name (`VENDOR/CLASS=NAME`), which document has them, and where in it.
    devices: BTreeMap<String, (usize, usize)>,
    /// What could not be read, and names that are there more than once: for whoever misses a device.
    problems: Vec<String>,
}

impl Registry {
    /// Reads all files that are named `*.json`, `*.yaml` or `*.yml`. What a later directory has hides what an earlier
    /// one has under the same name; within one directory, a name that is there twice means no device.
    pub(crate) fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self::default();
        for directory in directories {
            let mut here = BTreeMap::<String, Vec<(usize, usize)>>::new();
            for path in files(directory, &mut registry.problems) {
                let document = match read(&path) {
                    Ok(document) => document,
                    Err(why) => {
                        registry.problems.push(format!("{}: {why}", path.display()));
                        continue;
                    }
                };
                for (number, device) in document.devices.iter().enumerate() {
                    let name = format!("{}={}", document.kind, device.name);
                    here.entry(name).or_default().push((registry.documents.len(), number));
                }
                registry.documents.push(document);
            }
            for (name, places) in here {
                if let [only] = places[..] {
                    registry.devices.insert(name, only);
                } else {
                    registry.devices.remove(&name);
                    registry
                        .problems
                        .push(format!("{}: several files name device {name}", directory.display()));
                }
            }
        }
        registry
    }

    /// The qualified names of all devices, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// How many devices of a kind have a name.
    pub(super) fn count(&self, kind: &str) -> i64 {
        let is = |name: &&str| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('='));
        i64::try_from(self.names().filter(is).count()).unwrap_or(i64::MAX)
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// What containers get that ask for these devices: of each file first what all of its devices have.
    ///
    /// # Errors
    /// The names that mean no device.
    pub(super) fn edits<'a>(&'a self, names: &[String]) -> Result<Vec<&'a Edits>, Vec<String>> {
        let missing = names.iter().filter(|name| !self.devices.contains_key(*name));
        let missing: Vec<String> = missing.cloned().collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let (mut edits, mut seen) = (Vec::new(), Vec::new());
        for &(document, device) in names.iter().filter_map(|name| self.devices.get(name)) {
            let whole = &self.documents[document];
            if !seen.contains(&document) {
                seen.push(document);
                edits.push(&whole.container_edits);
            }
            edits.push(&whole.devices[device].container_edits);
        }
        Ok(edits)
    }
}

/// The files of a directory by name; one that is not there has none.
fn files(directory: &Path, problems: &mut Vec<String>) -> Vec<PathBuf> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(format!("{}: {error}", directory.display()));
            return Vec::new();
        }
    };
    let named = |path: &PathBuf| {
        path.extension().is_some_and(|end| ["json", "yaml", "yml"].iter().any(|known| end == *known))
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(named).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Document, String> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("larger than {LARGEST} bytes"));
    }
    Document::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_directories_hide_and_doubles_mean_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let directories = ["etc", "run", "nosuch"].map(|name| dir.path().join(name)).to_vec();
        let write = |path: &str, kind: &str, names: &[&str], value: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let devices: Vec<_> = names
                .iter()
                .map(|name| format!("{{name: {name}, containerEdits: {{env: [DEVICE={value}]}}}}"))
                .collect();
            let edits = format!("containerEdits: {{env: [FILE={value}]}}");
            let devices = devices.join(", ");
            fs::write(path, format!("{{cdiVersion: 0.6.0, kind: {kind}, devices: [{devices}], {edits}}}"))
                .unwrap();
        };
        write("etc/a.yaml", "x.com/d", &["one", "two", "double"], "etc");
        write("etc/b.json", "x.com/d", &["double"], "etc");
        write("run/a.yml", "x.com/d", &["two"], "run");
        write("etc/not.txt", "x.com/d", &["three"], "no");
        fs::write(dir.path().join("run/bad.json"), "{").unwrap();
        let registry = Registry::read(&directories);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["x.com/d=one", "x.com/d=two"]);
        assert_eq!((registry.count("x.com/d"), registry.count("x.com/")), (2, 0));
        let said = registry.problems();
        assert!(said[0].ends_with("several files name device x.com/d=double"), "{said:?}");
        assert!(said[1].contains("run/bad.json: "), "{said:?}");
        let ask = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("x.com/d={name}")).collect();
            let edits = registry.edits(&names)?;
            Ok::<_, Vec<String>>(edits.iter().flat_map(|edits| edits.env.clone()).collect::<Vec<_>>())
        };
        let all = ask(&["one", "two", "one"]).unwrap();
        assert_eq!(all, ["FILE=etc", "DEVICE=etc", "FILE=run", "DEVICE=run", "DEVICE=etc"]);
        assert_eq!(ask(&["one", "double"]).unwrap_err(), ["x.com/d=double"]);
    }
}
