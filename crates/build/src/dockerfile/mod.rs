//! The Dockerfile language: text to stages of typed instructions.
//!
//! Reading happens in three steps: parser directives (`directive`), logical lines with their here-documents (`line`),
//! instructions (`instruction`). Variables stay as they are: what they mean is known only while a build is planned.

mod change;
mod directive;
mod error;
mod flag;
mod heredoc;
mod instruction;
mod line;
mod lint;
mod stage;

pub use change::changes_of;
pub use directive::Directives;
pub(crate) use error::nearest;
pub use error::{Excerpt, Lines, ParseError, Refusal};
pub use heredoc::Heredoc;
pub use instruction::{
    AddOptions, Argument, Command, Copy, Healthcheck, InlineFile, Instruction, MountKind, MountSpec,
    NetworkMode, Pair, Run, Security, Sharing,
};
pub use lint::{CheckOptions, Rule, Warning};
pub use stage::{Dockerfile, Located, Stage};
