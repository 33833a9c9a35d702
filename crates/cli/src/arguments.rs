//! Arguments as Docker's client takes them, where clap by itself is stricter or looser: every boolean flag takes
//! `=false`, a flag given again replaces itself, what follows an image belongs to its command, and what is wrong is
//! said in Docker's words with its exit codes.

use std::ffi::OsString;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::error::say;

/// The exit code for a flag that is not understood.
const WRONG_FLAG: i32 = 125;

/// Commands whose flags end at the first word that is none.
const FLAGS_FIRST: [&str; 4] = ["run", "create", "exec", "top"];

/// Gives every flag of `command` and below Docker's manners.
pub(crate) fn relaxed(command: Command) -> Command {
    command
        .mut_args(|flag| if flag.is_positional() { flag } else { relaxed_flag(flag) })
        .mut_subcommands(relaxed)
}

fn relaxed_flag(flag: Arg) -> Arg {
    let flag = match flag.get_action() {
        ArgAction::SetTrue => flag
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL")
            .value_parser(BoolishValueParser::new()),
        // What follows a flag is its value, whatever it begins with.
        ArgAction::Set | ArgAction::Append if !flag.is_require_equals_set() => flag.allow_hyphen_values(true),
        _ => flag,
    };
    if matches!(flag.get_action(), ArgAction::Set) {
        let id = flag.get_id().clone();
        flag.overrides_with(id)
    } else {
        flag
    }
}

/// Puts `--` before the first word of `run`, `create`, `exec` and `top` that is no flag, so that what follows it is
/// not taken for flags.
pub(crate) fn separated(root: &Command, mut arguments: Vec<OsString>) -> Vec<OsString> {
    let (command, path, at) = walk(root, &arguments);
    let flags_first = path.last().is_some_and(|word| FLAGS_FIRST.contains(&word.as_str()))
        && !matches!(path[0].as_str(), "volume" | "network" | "context");
    if flags_first && let Some(at) = first_word(command, &arguments, at) {
        arguments.insert(at, "--".into());
    }
    arguments
}

/// The command that the arguments lead to, its words, and where its own arguments begin.
fn walk<'a>(root: &'a Command, arguments: &[OsString]) -> (&'a Command, Vec<String>, usize) {
    let (mut command, mut path, mut at) = (root, Vec::new(), 0);
    while let Some(next) = first_word(command, arguments, at) {
        let Some(found) = arguments[next].to_str().and_then(|word| command.find_subcommand(word)) else {
            break;
        };
        path.push(found.get_name().to_owned());
        (command, at) = (found, next + 1);
    }
    (command, path, at)
}

/// The command that arguments name, by the flags that stand before it.
pub(crate) fn command_word<'a>(flags: &Command, arguments: &'a [OsString]) -> Option<&'a str> {
    arguments[first_word(flags, arguments, 0)?].to_str()
}

/// The first argument from `at` on that is neither a flag nor a flag's value; none when `--` or the end comes first.
fn first_word(command: &Command, arguments: &[OsString], mut at: usize) -> Option<usize> {
    let takes_value = |flag: &Arg| {
        matches!(flag.get_action(), ArgAction::Set | ArgAction::Append) && !flag.is_require_equals_set()
    };
    while let Some(word) = arguments.get(at).map(|word| word.to_string_lossy().into_owned()) {
        if word == "--" {
            return None;
        }
        let valued = if let Some(name) = word.strip_prefix("--") {
            let named = |flag: &&Arg| {
                flag.get_long() == Some(name)
                    || flag.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
            };
            command.get_arguments().find(named).is_some_and(takes_value)
        } else if word.starts_with('-') && word.len() > 1 {
            let letters: Vec<char> = word.chars().skip(1).collect();
            let short = |letter: char| {
                command.get_arguments().find(|flag| flag.get_short() == Some(letter)).is_some_and(takes_value)
            };
            // A value may be glued to its letter: only one that ends the word takes the next.
            letters.iter().position(|letter| short(*letter)).is_some_and(|found| found + 1 == letters.len())
        } else {
            return Some(at);
        };
        at += 1 + usize::from(valued);
    }
    None
}

/// Says what is wrong in Docker's words; the answer is the exit code.
pub(crate) fn refuse(root: &Command, arguments: &[OsString], error: &clap::Error) -> i32 {
    let (command, path, _) = walk(root, arguments);
    let name = std::iter::once("wharf").chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let context = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(list)) => list.join(" "),
        _ => String::new(),
    };
    let (message, code) = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let _ = command.clone().bin_name(&name).print_help();
            return 0;
        }
        ErrorKind::InvalidSubcommand => {
            (format!("wharf: unknown command: {name} {}", context(ContextKind::InvalidSubcommand)), 1)
        }
        ErrorKind::UnknownArgument => unknown(&context(ContextKind::InvalidArg), command, &name),
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues | ErrorKind::TooManyValues => {
            (arity(command, &name), 1)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (flag, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
            let flag = spelled(command, &flag);
            if value.is_empty() && error.kind() == ErrorKind::InvalidValue {
                (format!("flag needs an argument: {flag}"), WRONG_FLAG)
            } else {
                let why = std::error::Error::source(error)
                    .map_or_else(|| "invalid syntax".to_owned(), ToString::to_string);
                (format!("invalid argument \"{value}\" for \"{flag}\" flag: {why}"), WRONG_FLAG)
            }
        }
        _ => (error.to_string().trim_end().to_owned(), WRONG_FLAG),
    };
    say(&format!("{message}\n\nRun '{name} --help' for more information"));
    code
}

fn unknown(word: &str, command: &Command, name: &str) -> (String, i32) {
    if word.starts_with("--") {
        return (format!("unknown flag: {}", word.split('=').next().unwrap_or(word)), WRONG_FLAG);
    }
    match word.strip_prefix('-').and_then(|letters| letters.chars().next()) {
        Some(letter) => (format!("unknown shorthand flag: '{letter}' in {word}"), WRONG_FLAG),
        None => (arity(command, name), 1),
    }
}

/// How many arguments a command wants.
fn arity(command: &Command, name: &str) -> String {
    let positionals: Vec<&Arg> = command.get_positionals().collect();
    let required = positionals.iter().filter(|positional| positional.is_required_set()).count();
    let many = positionals.iter().any(|positional| {
        positional.get_num_args().is_some_and(|range| range.max_values() > 1)
            || matches!(positional.get_action(), ArgAction::Append)
    });
    let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
    match (required, positionals.len()) {
        (_, 0) => format!("wharf: '{name}' accepts no arguments"),
        (required, _) if many => format!("wharf: '{name}' requires at least {required} {}", plural(required)),
        (required, all) if required == all => {
            format!("wharf: '{name}' requires {required} {}", plural(required))
        }
        (0, all) => format!("wharf: '{name}' accepts at most {all} {}", plural(all)),
        (required, all) => {
            format!("wharf: '{name}' requires at least {required} and at most {all} arguments")
        }
    }
}

/// `-m, --memory` for clap's `--memory <BYTES>`.
fn spelled(command: &Command, shown: &str) -> String {
    let long = shown.split([' ', '=', '[']).next().unwrap_or(shown);
    let flag = command
        .get_arguments()
        .find(|flag| flag.get_long().is_some_and(|name| long.strip_prefix("--") == Some(name)));
    flag.and_then(Arg::get_short).map_or_else(|| long.to_owned(), |short| format!("-{short}, {long}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn root() -> Command {
        relaxed(crate::Arguments::command())
    }

    fn split(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn refused(line: &str) -> (i32, ErrorKind) {
        let words = split(line);
        let all = std::iter::once(OsString::from("wharf")).chain(words.clone());
        let error = root().try_get_matches_from(all).unwrap_err();
        (refuse(&root(), &words, &error), error.kind())
    }

    #[test]
    fn the_declarations_hold_together() {
        root().debug_assert();
    }

    #[test]
    fn what_follows_an_image_is_its_commands() {
        let line =
            |text: &str| separated(&root(), split(text)).join(&OsString::from(" ")).into_string().unwrap();
        assert_eq!(line("run -it --name x busybox -c y"), "run -it --name x -- busybox -c y");
        assert_eq!(
            line("-H unix:///x run --rm -e A=b -eC busybox --rm"),
            "-H unix:///x run --rm -e A=b -eC -- busybox --rm"
        );
        assert_eq!(line("container exec -i -w / box ls -l"), "container exec -i -w / -- box ls -l");
        assert_eq!(line("run -- busybox -c"), "run -- busybox -c");
        assert_eq!(line("volume create -d local x"), "volume create -d local x");
        assert_eq!(line("ps -a"), "ps -a");
    }

    #[test]
    fn booleans_take_values_and_flags_replace_themselves() {
        let matches = |line: &str| {
            root().try_get_matches_from(std::iter::once(OsString::from("wharf")).chain(split(line)))
        };
        let found = matches("ps -a --all=false").unwrap();
        assert!(!found.subcommand_matches("ps").unwrap().get_flag("all"));
        assert!(matches("ps --all=maybe").is_err());
        assert!(matches("run --rm --rm --name a --name b busybox").is_ok());
        let found = matches("events --since -2h --until -1s").unwrap();
        let until = found.subcommand_matches("events").unwrap().get_one::<String>("until");
        assert_eq!(until.map(String::as_str), Some("-1s"));
    }

    #[test]
    fn exit_codes_are_dockers() {
        assert_eq!(refused("ps --nope").0, 125);
        assert_eq!(refused("ps -Z").0, 125);
        assert_eq!(refused("ps extra").0, 1);
        assert_eq!(refused("tag one").0, 1);
        assert_eq!(refused("run").0, 1);
        assert_eq!(refused("nope").0, 1);
        assert_eq!(refused("run --memory x busybox").0, 125);
    }

    #[test]
    fn arity_is_said_as_docker_says_it() {
        let command = root();
        let of = |words: &[&str]| {
            words.iter().fold(&command, |command, word| command.find_subcommand(word).unwrap()).clone()
        };
        assert_eq!(arity(&of(&["ps"]), "wharf ps"), "wharf: 'wharf ps' accepts no arguments");
        assert_eq!(arity(&of(&["tag"]), "wharf tag"), "wharf: 'wharf tag' requires 2 arguments");
        assert_eq!(arity(&of(&["exec"]), "wharf exec"), "wharf: 'wharf exec' requires at least 2 arguments");
        assert_eq!(spelled(&of(&["run"]), "--memory <BYTES>"), "-m, --memory");
    }
}
