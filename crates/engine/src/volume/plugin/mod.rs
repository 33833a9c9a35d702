//! Volume plugins: programs beside the engine that make volumes, spoken to as Docker's plugin protocol (version 1)
//! has it: JSON in `POST /VolumeDriver.VERB` over a socket.
//!
//! A plugin may hang or lie. Each call has an end, what comes back is bounded, and no lock that others want is held
//! meanwhile but the one of the volume in question.

mod call;
mod discover;
mod driver;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

pub(super) use call::Fault;
pub(super) use driver::{Driver, Told};

use crate::error::{Error, Result};
use discover::{Address, Places};

/// How long a plugin may take to say what it is. One that was just started gets this long to listen, too.
const ACTIVATION: Duration = Duration::from_secs(15);
/// How long a list waits for a plugin; its volumes are then shown as far as they are known here.
const LISTING: Duration = Duration::from_secs(2);
/// How long one that did not answer is left alone by those who cannot wait.
const SILENCE: Duration = Duration::from_secs(30);

/// The plugins of this machine.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    places: OnceLock<Places>,
    /// Those that said they make volumes, and where that was.
    active: Mutex<BTreeMap<String, Address>>,
    /// Those that did not answer lately, and when that was.
    silent: Mutex<BTreeMap<String, Instant>>,
}

impl Plugins {
    /// From now on, plugins are looked for where Docker does, and in `own`.
    pub(super) fn look_in(&self, own: &Path) {
        // Whoever came first stays.
        let _ = self.places.set(Places::standard(own));
    }

    /// The plugin of a name, which said that it makes volumes.
    ///
    /// # Errors
    /// Docker's words: `error looking up volume plugin NAME: …`.
    pub(super) fn driver(&self, name: &str) -> Result<Driver> {
        self.driver_within(name, ACTIVATION)
    }

    fn driver_within(&self, name: &str, patience: Duration) -> Result<Driver> {
        let looking = format!("error looking up volume plugin {name}");
        let found = self.places.get().map_or(Ok(None), |places| places.find(name));
        let address = found
            .map_err(|why| Error::internal(format!("legacy plugin: {why}")).context(&looking))?
            .ok_or_else(|| Error::not_found(format!("plugin {name:?} not found")).context(&looking))?;
        if super::lock(&self.active).get(name) != Some(&address) {
            let abilities = call::call(&address, "Plugin.Activate", &serde_json::Value::Null, patience)
                .map_err(|fault| Error::internal(format!("legacy plugin: {fault}")).context(&looking))?;
            let can = abilities["Implements"].as_array().into_iter().flatten();
            if !can.into_iter().any(|one| one == "VolumeDriver") {
                let why = format!(
                    "legacy plugin: Plugin does not implement the requested driver: plugin={name:?}, requested \
                     implementation=\"VolumeDriver\""
                );
                return Err(Error::internal(why).context(&looking));
            }
            super::lock(&self.active).insert(name.to_owned(), address.clone());
        }
        Ok(Driver::new(name, address))
    }

    /// The plugin that has a volume of this name, among those in use.
    pub(super) fn holder(&self, volume: &str) -> Option<String> {
        let active: Vec<(String, Address)> =
            super::lock(&self.active).iter().map(|(name, address)| (name.clone(), address.clone())).collect();
        let has = |driver: &Driver| {
            let answer = driver.get_within(volume, LISTING);
            self.note(driver.name(), answer.as_ref().err());
            matches!(answer, Ok(Some(_)))
        };
        active
            .into_iter()
            .filter(|(name, _)| !self.is_silent(name))
            .map(|(name, address)| Driver::new(&name, address))
            .find(has)
            .map(|driver| driver.name().to_owned())
    }

    fn is_silent(&self, name: &str) -> bool {
        super::lock(&self.silent).get(name).is_some_and(|since| since.elapsed() < SILENCE)
    }

    /// Remembers whether a plugin answered in time.
    fn note(&self, name: &str, fault: Option<&Fault>) {
        let mut silent = super::lock(&self.silent);
        match fault {
            Some(Fault::Late { .. }) => silent.insert(name.to_owned(), Instant::now()),
            _ => silent.remove(name),
        };
    }

    /// The names of the plugins that said they make volumes.
    pub(super) fn names(&self) -> Vec<String> {
        super::lock(&self.active).keys().cloned().collect()
    }

    /// What all plugins that can be found say they have, asked at the same time.
    pub(super) fn volumes(&self) -> Vec<(String, Result<Vec<Told>>)> {
        let names = self.places.get().map(Places::names).unwrap_or_default();
        std::thread::scope(|scope| {
            let ask = |name: &String| -> Result<Vec<Told>> {
                if self.is_silent(name) {
                    return Err(Error::unavailable("it did not answer lately"));
                }
                let driver = self.driver_within(name, LISTING)?;
                let listed = driver.list(LISTING);
                self.note(name, listed.as_ref().err());
                listed.map_err(|fault| Error::internal(fault.to_string()))
            };
            let asked: Vec<_> =
                names.iter().map(|name| (name.clone(), scope.spawn(move || ask(name)))).collect();
            let answer = |(name, thread): (String, std::thread::ScopedJoinHandle<'_, _>)| {
                let told = thread.join().unwrap_or_else(|_| Err(Error::internal("worker ended")));
                (name, told)
            };
            asked.into_iter().map(answer).collect()
        })
    }
}
