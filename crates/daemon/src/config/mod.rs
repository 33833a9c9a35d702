//! Configuration: flags and `daemon.json`, both described by one table of options.

mod file;
mod flags;
mod options;
mod settings;

pub(crate) use settings::{Loaded, Only, Settings, load, reload};
