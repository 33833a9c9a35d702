//! The instructions: what each is given, checked as far as can be before variables are known.

mod command;
mod copy;
mod from;
mod healthcheck;
mod mount;
mod pairs;
mod run;

pub use command::Command;
pub use copy::{AddOptions, Copy, InlineFile};
pub use healthcheck::Healthcheck;
pub use mount::{MountKind, MountSpec, Sharing};
pub use pairs::{Argument, Pair};
pub use run::{NetworkMode, Run, Security};

pub(super) use from::{From, parse_from};

use super::error::{Refusal, suggest};
use super::flag::{self, Flags};
use super::heredoc::Heredoc;

/// All there are, as they are suggested for a mistyped one.
const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`.
    Add(Copy),
    /// `ARG`.
    Arg(Vec<Argument>),
    /// `CMD`.
    Cmd(Command),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`: ports as written.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the instruction to run in a build on top, as written.
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    Stopsignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

impl Instruction {
    /// Its word, in capitals.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// Whether a line's instruction may be followed by here-documents: not in JSON form, and also behind `ONBUILD`.
pub(super) fn takes_heredocs(line: &str) -> bool {
    let (word, rest) = first_word(line);
    match word.to_ascii_uppercase().as_str() {
        "ONBUILD" => takes_heredocs(rest),
        "ADD" | "COPY" | "RUN" => line.contains("<<") && command::json(flag::extract(rest).1).is_none(),
        _ => false,
    }
}

/// Reads one instruction, `FROM` apart.
///
/// # Errors
/// Why it is none.
pub(super) fn parse(line: &str, heredocs: Vec<Heredoc>, escape: char) -> Result<Instruction, Refusal> {
    let (word, rest) = first_word(line);
    let name = word.to_ascii_uppercase();
    let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
        return Err(suggest(format!("unknown instruction: {word}"), word, NAMES).into());
    };
    let (mut flags, rest) = flag::extract(rest);
    if matches!(name, "ADD" | "COPY" | "RUN" | "HEALTHCHECK" | "FROM") {
        return flagged(name, &mut flags, rest, heredocs, escape)
            .and_then(|found| Ok(flags.end().map(|()| found)?));
    }
    flags.end()?;
    let rest = rest.trim();
    Ok(match name {
        "ARG" => Instruction::Arg(pairs::arguments(rest, escape)?),
        "CMD" => Instruction::Cmd(Command::parse(rest)?),
        "ENTRYPOINT" => {
            required(name, rest)?;
            Instruction::Entrypoint(Command::parse(rest)?)
        }
        "ENV" => Instruction::Env(pairs::pairs(name, rest, escape)?),
        "LABEL" => Instruction::Label(pairs::pairs(name, rest, escape)?),
        "EXPOSE" => {
            required(name, rest)?;
            Instruction::Expose(rest.split_whitespace().map(str::to_owned).collect())
        }
        "MAINTAINER" => Instruction::Maintainer(exactly_one(name, rest)?),
        "ONBUILD" => onbuild(rest, heredocs, escape)?,
        "SHELL" => Instruction::Shell(shell(rest)?),
        "STOPSIGNAL" => Instruction::Stopsignal(exactly_one(name, rest)?),
        "USER" => Instruction::User(exactly_one(name, rest)?),
        "VOLUME" => volume(rest)?,
        _ => Instruction::Workdir(exactly_one(name, rest)?),
    })
}

fn flagged(
    name: &str,
    flags: &mut Flags,
    rest: &str,
    heredocs: Vec<Heredoc>,
    escape: char,
) -> Result<Instruction, Refusal> {
    Ok(match name {
        "ADD" => Instruction::Add(copy::add(flags, rest, heredocs, escape)?),
        "COPY" => Instruction::Copy(copy::copy(flags, rest, heredocs, escape)?),
        "RUN" => Instruction::Run(run::run(flags, rest, heredocs)?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck::healthcheck(flags, rest)?),
        _ => return Err("FROM isn't allowed here".to_owned().into()),
    })
}

fn shell(rest: &str) -> Result<Vec<String>, Refusal> {
    match command::json(rest).transpose().map_err(Refusal::Text)? {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err("SHELL requires at least one argument".to_owned().into()),
        None => Err("SHELL requires the arguments to be in JSON form".to_owned().into()),
    }
}

fn first_word(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()))
}

fn required(name: &str, rest: &str) -> Result<(), String> {
    if rest.is_empty() { Err(format!("{name} requires at least one argument")) } else { Ok(()) }
}

fn exactly_one(name: &str, rest: &str) -> Result<String, String> {
    if rest.is_empty() { Err(format!("{name} requires exactly one argument")) } else { Ok(rest.to_owned()) }
}

fn volume(rest: &str) -> Result<Instruction, String> {
    required("VOLUME", rest)?;
    let paths = match command::json(rest).transpose()? {
        Some(paths) => paths,
        None => rest.split_whitespace().map(str::to_owned).collect(),
    };
    if paths.iter().any(|path| path.trim().is_empty()) {
        return Err("VOLUME specified can not be an empty string".to_owned());
    }
    if paths.is_empty() {
        return Err("VOLUME requires at least one argument".to_owned());
    }
    Ok(Instruction::Volume(paths))
}

fn onbuild(rest: &str, heredocs: Vec<Heredoc>, escape: char) -> Result<Instruction, Refusal> {
    required("ONBUILD", rest)?;
    let trigger = first_word(rest).0.to_ascii_uppercase();
    match trigger.as_str() {
        "ONBUILD" => return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned().into()),
        "MAINTAINER" | "FROM" => return Err(format!("{trigger} isn't allowed as an ONBUILD trigger").into()),
        _ => {}
    }
    let mut text = rest.to_owned();
    for heredoc in &heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    // What nobody knows is left to the build that it is for: another builder's may know it.
    if NAMES.contains(&trigger.as_str()) {
        parse(rest, heredocs, escape)?;
    }
    Ok(Instruction::Onbuild(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Instruction, String> {
        parse(line, Vec::new(), '\\').map_err(|refusal| refusal.message().to_owned())
    }

    #[test]
    fn what_each_needs() {
        assert_eq!(read("workdir /a b").unwrap(), Instruction::Workdir("/a b".to_owned()));
        assert_eq!(
            read("EXPOSE 80 443/tcp").unwrap(),
            Instruction::Expose(vec!["80".to_owned(), "443/tcp".to_owned()])
        );
        assert_eq!(read("VOLUME [\"/a b\"]").unwrap(), Instruction::Volume(vec!["/a b".to_owned()]));
        assert_eq!(read("SHELL sh").unwrap_err(), "SHELL requires the arguments to be in JSON form");
        assert_eq!(read("USER").unwrap_err(), "USER requires exactly one argument");
        assert_eq!(read("EXPOSE").unwrap_err(), "EXPOSE requires at least one argument");
        assert_eq!(read("USER --x=1 a").unwrap_err(), "unknown flag: --x");
    }

    #[test]
    fn triggers_are_checked() {
        assert!(
            matches!(read("ONBUILD RUN make").unwrap(), Instruction::Onbuild(text) if text == "RUN make")
        );
        assert_eq!(read("ONBUILD FROM a").unwrap_err(), "FROM isn't allowed as an ONBUILD trigger");
        assert_eq!(
            read("ONBUILD onbuild RUN a").unwrap_err(),
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
        );
        assert_eq!(read("ONBUILD COPY a").unwrap_err(), copy::too_few("COPY"));
        assert!(
            matches!(read("ONBUILD /bin/x --y").unwrap(), Instruction::Onbuild(text) if text == "/bin/x --y")
        );
    }

    #[test]
    fn only_some_take_heredocs() {
        assert!(takes_heredocs("RUN <<E") && takes_heredocs("onbuild copy <<E /x"));
        assert!(!takes_heredocs("RUN [\"<<E\"]") && !takes_heredocs("CMD <<E") && !takes_heredocs("RUN a"));
    }
}
