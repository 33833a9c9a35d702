//! `RUN`.

use super::super::error::Refusal;
use super::super::flag::Flags;
use super::super::heredoc::Heredoc;
use super::command::Command;
use super::mount::MountSpec;

/// A command whose changes become a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// The here-documents of its line.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountSpec>,
    /// `--network`.
    pub network: NetworkMode,
    /// `--security`.
    pub security: Security,
}

/// What a `RUN` may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// What the build says.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's own.
    Host,
}

/// What a `RUN` may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// What a container may.
    #[default]
    Sandbox,
    /// Everything; the build must allow it.
    Insecure,
}

pub(super) fn run(flags: &mut Flags, rest: &str, heredocs: Vec<Heredoc>) -> Result<Run, Refusal> {
    let mounts = flags.list("mount")?.iter().map(|text| MountSpec::parse(text)).collect::<Result<_, _>>();
    let mounts = mounts.map_err(Refusal::Text)?;
    let network = match flags.string("network")?.as_deref() {
        None | Some("default") => NetworkMode::Default,
        Some("none") => NetworkMode::None,
        Some("host") => NetworkMode::Host,
        Some(other) => return Err(format!("invalid network mode \"{other}\"").into()),
    };
    let security = match flags.string("security")?.as_deref() {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => return Err(format!("security \"{other}\" is not valid").into()),
    };
    let command = Command::parse(rest)?;
    Ok(Run { command, heredocs, mounts, network, security })
}

#[cfg(test)]
mod tests {
    use super::super::{Instruction, parse};
    use super::*;

    #[test]
    fn flags_of_run() {
        let line = "RUN --mount=type=cache,target=/c --network=none --security=insecure make";
        let Instruction::Run(run) = parse(line, Vec::new(), '\\').unwrap() else { panic!("no run") };
        assert_eq!((run.network, run.security, run.mounts.len()), (NetworkMode::None, Security::Insecure, 1));
        assert_eq!(run.command, Command::Shell("make".to_owned()));
        assert!(parse("RUN --network=x a", Vec::new(), '\\').is_err());
    }
}
