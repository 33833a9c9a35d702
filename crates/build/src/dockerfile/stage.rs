//! A whole Dockerfile: the arguments above the first `FROM`, and the stages.

use super::directive::Directives;
use super::error::{Lines, ParseError, Refusal};
use super::instruction::{self, Argument, Instruction};
use super::line::Reader;
use super::lint::{self, Warning};

/// Something of a Dockerfile, with its place and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The thing.
    pub item: T,
    /// Where it is.
    pub lines: Lines,
    /// The instruction as it was written, continuations joined.
    pub text: String,
    /// The comments right above it.
    pub comments: Vec<String>,
}

/// One `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name behind `AS`, in lower case.
    pub name: Option<String>,
    /// What it starts from, unexpanded: a stage's name, an image, `scratch`.
    pub base: String,
    /// `--platform`, unexpanded.
    pub platform: Option<String>,
    /// Where the `FROM` is.
    pub lines: Lines,
    /// The `FROM` as it was written.
    pub text: String,
    /// The comments right above it.
    pub comments: Vec<String>,
    /// What follows.
    pub instructions: Vec<Located<Instruction>>,
}

/// A Dockerfile.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// What its first comments say.
    pub directives: Directives,
    /// The `ARG`s before the first `FROM`.
    pub arguments: Vec<Located<Vec<Argument>>>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// What could be better, as far as the text alone tells.
    pub warnings: Vec<Warning>,
}

impl Dockerfile {
    /// Reads a Dockerfile.
    ///
    /// # Errors
    /// The first mistake, with its lines, in BuildKit's words.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let directives = Directives::read(text)?;
        let mut parsing = Parsing {
            escape: directives.escape,
            arguments: Vec::new(),
            stages: Vec::new(),
            casing: Vec::new(),
            warnings: Vec::new(),
        };
        let mut reader = Reader::new(text, directives.escape);
        while let Some(mut line) = reader.next()? {
            parsing.line(&mut reader, &mut line)?;
        }
        let Parsing { arguments, stages, casing, mut warnings, .. } = parsing;
        if stages.is_empty() {
            let empty = "the Dockerfile cannot be empty";
            let message = if casing.is_empty() { empty } else { "dockerfile contains no stages to build" };
            return Err(ParseError { lines: None, message: message.to_owned() });
        }
        warnings.extend(lint::casing(&casing));
        warnings.extend(lint::stages(&stages));
        warnings.sort_by_key(|warning| warning.lines);
        Ok(Self { directives, arguments, stages, warnings })
    }

    /// Reads one instruction with its here-documents, as an `ONBUILD` of a base image has it.
    ///
    /// # Errors
    /// The mistake in it.
    pub fn parse_trigger(text: &str, escape: char) -> Result<Instruction, ParseError> {
        let mut reader = Reader::new(text, escape);
        let Some(mut line) = reader.next()? else {
            return Err(ParseError::at(Lines::one(1), "empty trigger"));
        };
        let heredocs =
            if instruction::takes_heredocs(&line.text) { reader.heredocs(&mut line)? } else { Vec::new() };
        instruction::parse(&line.text, heredocs, escape).map_err(|refusal| refusal.at(line.lines))
    }

    /// The stage of this name, or number; the last one of a name counts.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<usize> {
        let lower = name.to_lowercase();
        let named = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(lower.as_str()));
        named.or_else(|| name.parse().ok().filter(|at| *at < self.stages.len()))
    }
}

struct Parsing {
    escape: char,
    arguments: Vec<Located<Vec<Argument>>>,
    stages: Vec<Stage>,
    /// The instructions' words as written.
    casing: Vec<(String, Lines)>,
    warnings: Vec<Warning>,
}

impl Parsing {
    fn line(&mut self, reader: &mut Reader<'_>, line: &mut super::line::Line) -> Result<(), ParseError> {
        let heredocs =
            if instruction::takes_heredocs(&line.text) { reader.heredocs(line)? } else { Vec::new() };
        let at = line.lines;
        if line.empty_continuation {
            self.warnings.push(lint::empty_continuation(at));
        }
        let word = line.text.split_whitespace().next().unwrap_or_default();
        self.casing.push((word.to_owned(), at));
        if word.eq_ignore_ascii_case("from") {
            let from = instruction::parse_from(&line.text).map_err(|why| Refusal::from(why).at(at))?;
            self.warnings.extend(lint::from(&from, at));
            let (text, comments) = (line.text.clone(), std::mem::take(&mut line.comments));
            let name = from.name.map(|name| name.to_lowercase());
            let instructions = Vec::new();
            self.stages.push(Stage {
                name,
                base: from.base,
                platform: from.platform,
                lines: at,
                text,
                comments,
                instructions,
            });
            return Ok(());
        }
        let item = instruction::parse(&line.text, heredocs, self.escape).map_err(|refusal| refusal.at(at))?;
        self.warnings.extend(lint::instruction(&item, at));
        let (text, comments) = (line.text.clone(), std::mem::take(&mut line.comments));
        match (self.stages.last_mut(), item) {
            (Some(stage), item) => stage.instructions.push(Located { item, lines: at, text, comments }),
            (None, Instruction::Arg(item)) => {
                self.arguments.push(Located { item, lines: at, text, comments })
            }
            (None, _) => return Err(ParseError::at(at, "no build stage in current context")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Dockerfile::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn stages_are_found_by_name_and_number() {
        let text = "ARG V=1\nFROM debian:$V AS Base\nRUN true\nFROM base\nCOPY --from=base /a /b\n";
        let file = Dockerfile::parse(text).unwrap();
        assert_eq!((file.arguments.len(), file.stages.len()), (1, 2));
        assert_eq!((file.stage("BASE"), file.stage("1"), file.stage("2")), (Some(0), Some(1), None));
        assert_eq!(file.stages[0].base, "debian:$V");
        assert_eq!(file.stages[1].instructions[0].lines, Lines::one(5));
    }

    #[test]
    fn errors_are_buildkits() {
        let cases = [
            ("", "the Dockerfile cannot be empty"),
            ("ARG x\n", "dockerfile contains no stages to build"),
            ("RUN a\n", "no build stage in current context"),
            (
                "FROM a\nFOO b\n",
                "dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)",
            ),
            ("FROM a\nXYLO b\n", "dockerfile parse error on line 2: unknown instruction: XYLO"),
            ("FROM a b\n", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
            ("FROM a\nENV x\n", "ENV must have two arguments"),
            (
                "FROM a\nCOPY --from b c\n",
                "dockerfile parse error on line 2: missing a value on flag: --from",
            ),
            ("FROM a\nRUN --mount=type=secret b\n", "invalid secret mount. one of source, target required"),
            ("FROM a\nRUN <<E\nb\n", "unterminated heredoc"),
            (
                "FROM a AS 1b\n",
                "dockerfile parse error on line 1: invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(refused(text), expected);
        }
        assert_eq!(
            Dockerfile::parse("FROM a\nRUN <<E\nb\n").unwrap_err().lines,
            Some(Lines { first: 2, last: 3 })
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "([A-Z]{2,5}|FROM|RUN|COPY|ENV|HEALTHCHECK|ONBUILD)( [<\\-a-z0-9=\\[\\]\"\\\\$\\{\\}]{0,12}){0,4}\n{1,2}") {
            let _ = Dockerfile::parse(&format!("FROM a\n{text}"));
            let _ = Dockerfile::parse(&text);
        }
    }
}
