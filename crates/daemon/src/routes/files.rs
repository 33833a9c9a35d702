//! Containers' file systems: copying in and out, export, changes, commit.

use wharf_engine::Result;

use crate::http::answer::Answer;
use crate::http::call::Call;
use crate::routes::absent::not_available;

pub(crate) async fn changes(_call: Call) -> Result<Answer> {
    Err(not_available("diff"))
}

pub(crate) async fn export(_call: Call) -> Result<Answer> {
    Err(not_available("export"))
}

pub(crate) async fn stat_path(_call: Call) -> Result<Answer> {
    Err(not_available("copy"))
}

pub(crate) async fn get_archive(_call: Call) -> Result<Answer> {
    Err(not_available("copy"))
}

pub(crate) async fn put_archive(_call: Call) -> Result<Answer> {
    Err(not_available("copy"))
}

pub(crate) async fn commit(_call: Call) -> Result<Answer> {
    Err(not_available("commit"))
}
