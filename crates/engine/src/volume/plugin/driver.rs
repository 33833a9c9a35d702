//! What a plugin can be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::call::{Fault, call};
use super::discover::Address;

/// How long changes may take, and how long questions: Docker's own.
const CHANGE: Duration = Duration::from_secs(120);
const QUESTION: Duration = Duration::from_secs(60);

/// What a plugin says of a volume.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::volume) struct Told {
    pub(in crate::volume) name: String,
    pub(in crate::volume) mountpoint: String,
    pub(in crate::volume) created: String,
    pub(in crate::volume) status: Option<BTreeMap<String, Value>>,
}

impl Told {
    fn new(volume: &Value) -> Option<Self> {
        let text = |name: &str| volume[name].as_str().unwrap_or_default().to_owned();
        let status = volume["Status"].as_object();
        let told = Self {
            name: text("Name"),
            mountpoint: text("Mountpoint"),
            created: text("CreatedAt"),
            status: status
                .map(|status| status.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
        };
        Some(told).filter(|told| !told.name.is_empty())
    }
}

/// A plugin that makes volumes. The methods sleep.
#[derive(Debug, Clone)]
pub(in crate::volume) struct Driver {
    name: String,
    address: Address,
}

impl Driver {
    pub(super) fn new(name: &str, address: Address) -> Self {
        Self { name: name.to_owned(), address }
    }

    pub(in crate::volume) fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, method: &'static str, ask: &Value, patience: Duration) -> Result<Value, Fault> {
        call(&self.address, method, ask, patience)
    }

    /// Makes a volume.
    pub(in crate::volume) fn create(
        &self,
        volume: &str,
        options: Option<&BTreeMap<String, String>>,
    ) -> Result<(), Fault> {
        let ask = json!({ "Name": volume, "Opts": options });
        self.ask("VolumeDriver.Create", &ask, CHANGE).map(drop)
    }

    /// Removes a volume.
    pub(in crate::volume) fn remove(&self, volume: &str) -> Result<(), Fault> {
        self.ask("VolumeDriver.Remove", &json!({ "Name": volume }), CHANGE).map(drop)
    }

    /// Makes a volume usable, for whoever has the id; answers where it is on the host.
    pub(in crate::volume) fn mount(&self, volume: &str, id: &str) -> Result<String, Fault> {
        let method = "VolumeDriver.Mount";
        let answer = self.ask(method, &json!({ "Name": volume, "ID": id }), CHANGE)?;
        match answer["Mountpoint"].as_str() {
            Some(path) if path.starts_with('/') => Ok(path.to_owned()),
            _ => Err(Fault::Nonsense { method, why: "no mount point in the answer".to_owned() }),
        }
    }

    /// The id needs the volume no more.
    pub(in crate::volume) fn unmount(&self, volume: &str, id: &str) -> Result<(), Fault> {
        self.ask("VolumeDriver.Unmount", &json!({ "Name": volume, "ID": id }), CHANGE).map(drop)
    }

    /// Where a volume is, or will be; may be empty.
    pub(in crate::volume) fn path(&self, volume: &str) -> Result<String, Fault> {
        let answer = self.ask("VolumeDriver.Path", &json!({ "Name": volume }), QUESTION)?;
        Ok(answer["Mountpoint"].as_str().unwrap_or_default().to_owned())
    }

    /// One volume. Plugins say in words of their own that there is none.
    pub(in crate::volume) fn get(&self, volume: &str) -> Result<Option<Told>, Fault> {
        self.get_within(volume, QUESTION)
    }

    pub(super) fn get_within(&self, volume: &str, patience: Duration) -> Result<Option<Told>, Fault> {
        let answer = self.ask("VolumeDriver.Get", &json!({ "Name": volume }), patience)?;
        Ok(Told::new(&answer["Volume"]))
    }

    /// All volumes.
    pub(super) fn list(&self, patience: Duration) -> Result<Vec<Told>, Fault> {
        let answer = self.ask("VolumeDriver.List", &Value::Null, patience)?;
        Ok(answer["Volumes"].as_array().into_iter().flatten().filter_map(Told::new).collect())
    }

    /// `local` or `global`; plugins that were written before the question are the former.
    pub(in crate::volume) fn scope(&self) -> String {
        let answer = self.ask("VolumeDriver.Capabilities", &Value::Null, QUESTION);
        let scope =
            answer.ok().and_then(|answer| answer["Capabilities"]["Scope"].as_str().map(str::to_lowercase));
        scope.filter(|scope| scope == "global").unwrap_or_else(|| "local".to_owned())
    }
}
