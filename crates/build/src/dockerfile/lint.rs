//! What could be better in a Dockerfile: BuildKit's rules, as far as the text alone tells.

use std::collections::{HashMap, HashSet};

use super::error::Lines;
use super::instruction::{Command, From, Instruction};
use super::stage::Stage;

/// A rule: its name, and what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rule {
    /// `StageNameCasing`; its documentation's address has it in kebab case.
    pub name: &'static str,
    /// What it asks for.
    pub description: &'static str,
}

macro_rules! rules {
    ($($constant:ident = $name:literal, $description:literal;)*) => {
        impl Rule {
            $(#[doc = $description] pub const $constant: Self = Self { name: $name, description: $description };)*
        }
    };
}

rules! {
    STAGE_NAME_CASING = "StageNameCasing", "Stage names should be lowercase";
    FROM_AS_CASING = "FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword";
    NO_EMPTY_CONTINUATION = "NoEmptyContinuation", "Empty continuation lines will become errors in a future release";
    CONSISTENT_CASING = "ConsistentInstructionCasing", "All commands within the Dockerfile should use the same casing (either upper or lower)";
    DUPLICATE_STAGE_NAME = "DuplicateStageName", "Stage names should be unique";
    RESERVED_STAGE_NAME = "ReservedStageName", "Reserved words should not be used as stage names";
    JSON_ARGS = "JSONArgsRecommended", "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    MAINTAINER = "MaintainerDeprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    UNDEFINED_ARG_IN_FROM = "UndefinedArgInFrom", "FROM command must use declared ARGs";
    WORKDIR_RELATIVE = "WorkdirRelativePath", "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
    UNDEFINED_VAR = "UndefinedVar", "Variables should be defined before their use";
    MULTIPLE_INSTRUCTIONS = "MultipleInstructionsDisallowed", "Multiple instructions of the same type should not be used in the same stage";
    LEGACY_KEY_VALUE = "LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used";
    REDUNDANT_PLATFORM = "RedundantTargetPlatform", "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    SECRETS = "SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands";
    INVALID_DEFAULT_ARG = "InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name";
    CONSTANT_PLATFORM = "FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value";
    COPY_IGNORED = "CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore";
    EXPOSE_CASING = "ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase";
    EXPOSE_FORMAT = "ExposeInvalidFormat", "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";
}

impl Rule {
    /// Where it is explained.
    #[must_use]
    pub fn url(self) -> String {
        let mut kebab = String::new();
        let letters: Vec<char> = self.name.chars().collect();
        for (at, letter) in letters.iter().enumerate() {
            let begins = at > 0
                && letter.is_uppercase()
                && (letters[at - 1].is_lowercase()
                    || letters.get(at + 1).is_some_and(|next| next.is_lowercase()));
            if begins {
                kebab.push('-');
            }
            kebab.extend(letter.to_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{kebab}/")
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// What was found.
    pub message: String,
    /// Where.
    pub lines: Lines,
}

impl Warning {
    pub(crate) fn new(rule: Rule, lines: Lines, message: impl Into<String>) -> Self {
        Self { rule, message: message.into(), lines }
    }
}

/// What `# check=` and `--build-arg BUILDKIT_DOCKERFILE_CHECK` ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Rules that are not told.
    pub skip: HashSet<String>,
    /// No rule is told.
    pub skip_all: bool,
    /// A finding fails the build.
    pub error: bool,
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true`.
    ///
    /// # Errors
    /// A part that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("invalid check option \"{part}\""));
            };
            match key.trim() {
                "skip" => {
                    options.skip = value.split(',').map(|rule| rule.trim().to_owned()).collect();
                    options.skip_all = options.skip.contains("all");
                }
                "error" => {
                    options.error = value
                        .trim()
                        .parse()
                        .map_err(|_| format!("failed to parse check option \"{part}\""))?
                }
                "experimental" => {}
                other => return Err(format!("invalid check option \"{other}\"")),
            }
        }
        Ok(options)
    }

    /// Whether a rule's findings are told.
    #[must_use]
    pub fn tells(&self, rule: Rule) -> bool {
        !self.skip_all && !self.skip.contains(rule.name)
    }
}

pub(super) fn empty_continuation(lines: Lines) -> Warning {
    Warning::new(Rule::NO_EMPTY_CONTINUATION, lines, "Empty continuation line")
}

/// The words of all instructions: most decide how the others should be written.
pub(super) fn casing(words: &[(String, Lines)]) -> Vec<Warning> {
    let is_lower = |word: &str| word.to_ascii_lowercase() == word;
    let is_upper = |word: &str| word.to_ascii_uppercase() == word;
    let lower = words.iter().filter(|(word, _)| is_lower(word)).count();
    let upper = words.iter().filter(|(word, _)| is_upper(word)).count();
    let (fits, majority): (&dyn Fn(&str) -> bool, _) =
        if lower > upper { (&is_lower, "lowercase") } else { (&is_upper, "uppercase") };
    let odd = words.iter().filter(|(word, _)| !fits(word));
    odd.map(|(word, lines)| {
        let message = format!("Command '{word}' should match the case of the command majority ({majority})");
        Warning::new(Rule::CONSISTENT_CASING, *lines, message)
    })
    .collect()
}

pub(super) fn from(from: &From, lines: Lines) -> Vec<Warning> {
    let mut found = Vec::new();
    if let (keyword, Some(as_word)) = &from.keywords {
        let upper = |word: &str| word.to_ascii_uppercase() == word;
        if upper(keyword) != upper(as_word) {
            let message = format!("'{as_word}' and '{keyword}' keywords' casing do not match");
            found.push(Warning::new(Rule::FROM_AS_CASING, lines, message));
        }
    }
    if let Some(name) = &from.name {
        if name.to_lowercase() != *name {
            found.push(Warning::new(
                Rule::STAGE_NAME_CASING,
                lines,
                format!("Stage name '{name}' should be lowercase"),
            ));
        }
        if matches!(name.to_lowercase().as_str(), "scratch" | "context") {
            let message = format!("Stage name should not use the same name as reserved stage \"{name}\"");
            found.push(Warning::new(Rule::RESERVED_STAGE_NAME, lines, message));
        }
    }
    match from.platform.as_deref() {
        Some(platform @ ("$TARGETPLATFORM" | "${TARGETPLATFORM}")) => {
            let message = format!(
                "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
            );
            found.push(Warning::new(Rule::REDUNDANT_PLATFORM, lines, message));
        }
        Some(platform) if !platform.contains('$') => {
            let message = format!("FROM --platform flag should not use constant value \"{platform}\"");
            found.push(Warning::new(Rule::CONSTANT_PLATFORM, lines, message));
        }
        _ => {}
    }
    found
}

pub(super) fn instruction(item: &Instruction, lines: Lines) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut tell = |rule, message: String| found.push(Warning::new(rule, lines, message));
    match item {
        Instruction::Cmd(Command::Shell(_)) | Instruction::Entrypoint(Command::Shell(_)) => {
            let name = item.name();
            tell(
                Rule::JSON_ARGS,
                format!(
                    "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
                ),
            );
        }
        Instruction::Maintainer(_) => {
            tell(Rule::MAINTAINER, "Maintainer instruction is deprecated in favor of using label".to_owned());
        }
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            let name = item.name();
            if pairs.iter().any(|pair| pair.legacy) {
                let message = format!(
                    "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
                );
                tell(Rule::LEGACY_KEY_VALUE, message);
            }
            if name == "ENV" {
                pairs
                    .iter()
                    .filter(|pair| is_secret(&pair.name))
                    .for_each(|pair| tell(Rule::SECRETS, secret(name, &pair.name)));
            }
        }
        Instruction::Arg(arguments) => {
            let secrets = arguments.iter().filter(|argument| is_secret(&argument.name));
            secrets.for_each(|argument| tell(Rule::SECRETS, secret("ARG", &argument.name)));
        }
        Instruction::Expose(ports) => ports.iter().for_each(|port| expose(port, &mut tell)),
        _ => {}
    }
    found
}

fn secret(instruction: &str, name: &str) -> String {
    format!("Do not use ARG or ENV instructions for sensitive data ({instruction} \"{name}\")")
}

/// Whether a name sounds like a secret's.
fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut words = lower.split(['_', '-']);
    let secret = words.any(|word| {
        matches!(
            word,
            "apikey"
                | "auth"
                | "credential"
                | "credentials"
                | "key"
                | "password"
                | "pword"
                | "passwd"
                | "secret"
                | "token"
        )
    });
    secret && !lower.split(['_', '-']).any(|word| word == "public")
}

fn expose(port: &str, tell: &mut impl FnMut(Rule, String)) {
    let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
    if protocol.to_lowercase() != protocol {
        tell(
            Rule::EXPOSE_CASING,
            format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase"),
        );
    }
    if number.contains(':') && !number.contains('$') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        tell(Rule::EXPOSE_FORMAT, message);
    }
}

/// What only all stages together tell.
pub(super) fn stages(stages: &[Stage]) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut names: HashSet<&str> = HashSet::new();
    for stage in stages {
        if let Some(name) = stage.name.as_deref()
            && !names.insert(name)
        {
            let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
            found.push(Warning::new(Rule::DUPLICATE_STAGE_NAME, stage.lines, message));
        }
        found.extend(repeated(stage));
    }
    found
}

/// Instructions of which only the last counts.
fn repeated(stage: &Stage) -> Vec<Warning> {
    let mut last: HashMap<&str, Lines> = HashMap::new();
    let mut found = Vec::new();
    for located in &stage.instructions {
        let name = located.item.name();
        if !matches!(name, "CMD" | "ENTRYPOINT" | "HEALTHCHECK") {
            continue;
        }
        if let Some(earlier) = last.insert(name, located.lines) {
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            found.push(Warning::new(Rule::MULTIPLE_INSTRUCTIONS, earlier, message));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Dockerfile;
    use super::*;

    fn told(text: &str) -> Vec<(&'static str, u32)> {
        let file = Dockerfile::parse(text).unwrap();
        file.warnings.iter().map(|warning| (warning.rule.name, warning.lines.first)).collect()
    }

    #[test]
    fn findings_have_their_rule_and_line() {
        let text = "FROM --platform=linux/amd64 a as B\nMAINTAINER me\nENV x y\nRUN a \\\n\n b\ncmd c\nCMD [\"d\"]\nARG API_TOKEN\nEXPOSE 80/TCP\n";
        let expected = [
            ("FromAsCasing", 1),
            ("StageNameCasing", 1),
            ("FromPlatformFlagConstDisallowed", 1),
            ("MaintainerDeprecated", 2),
            ("LegacyKeyValueFormat", 3),
            ("NoEmptyContinuation", 4),
            ("JSONArgsRecommended", 7),
            ("ConsistentInstructionCasing", 7),
            ("MultipleInstructionsDisallowed", 7),
            ("SecretsUsedInArgOrEnv", 9),
            ("ExposeProtoCasing", 10),
        ];
        let mut found = told(text);
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert!(told("FROM a AS b\nRUN c\nCMD [\"d\"]\nENV PUBLIC_KEY=x\n").is_empty());
    }

    #[test]
    fn options_and_addresses() {
        let options = CheckOptions::parse("skip=JSONArgsRecommended,StageNameCasing;error=true").unwrap();
        assert!(!options.tells(Rule::JSON_ARGS) && options.tells(Rule::SECRETS) && options.error);
        assert!(CheckOptions::parse("skip=all").unwrap().skip_all && CheckOptions::parse("foo").is_err());
        assert_eq!(
            Rule::JSON_ARGS.url(),
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
        );
        assert_eq!(Rule::FROM_AS_CASING.url(), "https://docs.docker.com/go/dockerfile/rule/from-as-casing/");
    }
}
