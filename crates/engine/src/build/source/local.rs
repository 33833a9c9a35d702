//! Directories of the client's.

use std::path::PathBuf;

use jiff::Timestamp;
use wharf_build::solve::LocalRequest;

use crate::build::{Build, Step, Transfer};

impl Build {
    /// A directory of the client's, which stays as it is until the build ends.
    pub(in crate::build) fn local(&self, request: &LocalRequest<'_>, step: &Step) -> Result<PathBuf, String> {
        let (started, id) = (Timestamp::now(), format!("transferring {}:", request.name));
        let progress = |transfer: Transfer| step.status(&id, transfer.bytes, 0, started, transfer.done);
        let files = self.client().local(request, &progress)?;
        let path = files.path.clone();
        self.hold(files);
        Ok(path)
    }
}
