//! `wharf registry …`: the registry in the box.

mod serve;

use clap::Subcommand;

use super::{Outcome, commands};
use crate::connect::Target;

commands! {
    /// The verbs of the registry.
    RegistryCommand {
        /// Serve images of a folder to any client of the OCI distribution spec
        Serve(serve::Serve),
    }
}
