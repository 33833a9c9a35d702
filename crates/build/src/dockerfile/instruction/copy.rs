//! `COPY` and `ADD`.

use super::super::flag::Flags;
use super::super::heredoc::{self, Heredoc};
use super::command;

/// What is copied where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Paths (globs), or for `ADD` also addresses, in order.
    pub sources: Vec<String>,
    /// Files whose content stands in the Dockerfile.
    pub files: Vec<InlineFile>,
    /// Where to.
    pub destination: String,
    /// A stage, an image or a named context; `None`: the build context.
    pub from: Option<String>,
    /// Owner, as `user:group`, names or numbers.
    pub chown: Option<String>,
    /// Mode, octal or symbolic.
    pub chmod: Option<String>,
    /// Whether the layer is independent of those below.
    pub link: bool,
    /// Whether directories above the sources are made too.
    pub parents: bool,
    /// Patterns of what is not copied.
    pub excludes: Vec<String>,
    /// What only `ADD` has.
    pub add: Option<AddOptions>,
}

/// What only `ADD` has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddOptions {
    /// The digest that a fetched file must have.
    pub checksum: Option<String>,
    /// Whether `.git` stays in a repository.
    pub keep_git_dir: bool,
    /// Whether archives are unpacked; `None`: local ones are, fetched ones are not.
    pub unpack: Option<bool>,
}

/// A file whose content is a here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name in the destination, when that is a directory.
    pub name: String,
    /// Its content.
    pub content: String,
    /// Whether variables in it are expanded.
    pub expand: bool,
}

pub(super) fn too_few(name: &str) -> String {
    format!(
        "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
    )
}

pub(super) fn copy(
    flags: &mut Flags,
    rest: &str,
    heredocs: Vec<Heredoc>,
    escape: char,
) -> Result<Copy, String> {
    let mut copy = common("COPY", flags, rest, heredocs, escape)?;
    copy.from = flags.string("from")?;
    copy.parents = flags.boolean("parents")?.unwrap_or(false);
    Ok(copy)
}

pub(super) fn add(
    flags: &mut Flags,
    rest: &str,
    heredocs: Vec<Heredoc>,
    escape: char,
) -> Result<Copy, String> {
    let mut copy = common("ADD", flags, rest, heredocs, escape)?;
    copy.add = Some(AddOptions {
        checksum: flags.string("checksum")?,
        keep_git_dir: flags.boolean("keep-git-dir")?.unwrap_or(false),
        unpack: flags.boolean("unpack")?,
    });
    Ok(copy)
}

fn common(
    name: &str,
    flags: &mut Flags,
    rest: &str,
    heredocs: Vec<Heredoc>,
    escape: char,
) -> Result<Copy, String> {
    let mut words = match command::json(rest).transpose()? {
        Some(words) => words,
        None => rest.split_whitespace().map(str::to_owned).collect(),
    };
    let Some(destination) = words.pop() else { return Err(format!("{name} requires at least one argument")) };
    if words.is_empty() {
        return Err(too_few(name));
    }
    if !heredocs.is_empty() && heredoc::parse(&destination, escape).is_some() {
        return Err(format!("{name} cannot accept a heredoc as a destination"));
    }
    words.retain(|word| heredocs.is_empty() || heredoc::parse(word, escape).is_none());
    let file = |heredoc: &Heredoc| InlineFile {
        name: heredoc.name.clone(),
        content: heredoc.text(),
        expand: heredoc.expand,
    };
    Ok(Copy {
        sources: words,
        files: heredocs.iter().map(file).collect(),
        destination,
        from: None,
        chown: flags.string("chown")?,
        chmod: flags.string("chmod")?,
        link: flags.boolean("link")?.unwrap_or(false),
        parents: false,
        excludes: flags.list("exclude")?,
        add: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Instruction, parse};

    #[test]
    fn copies_and_additions() {
        let Instruction::Copy(copy) =
            parse("COPY --from=a --chmod=755 --link [\"x y\", \"/z\"]", Vec::new(), '\\').unwrap()
        else {
            panic!("no copy");
        };
        assert_eq!(
            (copy.sources, copy.destination.as_str(), copy.link),
            (vec!["x y".to_owned()], "/z", true)
        );
        let Instruction::Add(add) =
            parse("ADD --checksum=sha256:ab --unpack=false http://x/a.tar /d/", Vec::new(), '\\').unwrap()
        else {
            panic!("no addition");
        };
        assert_eq!(add.add.unwrap().unpack, Some(false));
        assert!(
            parse("ADD --from=a b c", Vec::new(), '\\')
                .unwrap_err()
                .message()
                .starts_with("unknown flag: --from")
        );
        assert_eq!(parse("COPY a", Vec::new(), '\\').unwrap_err(), super::too_few("COPY").into());
    }
}
