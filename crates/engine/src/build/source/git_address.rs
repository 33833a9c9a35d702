//! Addresses of git repositories: `https://host/path.git#ref:directory`, `git@host:path`, and the same as a query.

/// A repository, what of it, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Address {
    /// Without fragment and query of ours.
    pub(super) url: String,
    /// A branch, a tag, a commit; `None`: what the repository begins with.
    pub(super) reference: Option<String>,
    /// A directory in it; empty: all of it.
    pub(super) directory: String,
    /// What its commit's id begins with.
    pub(super) checksum: Option<String>,
    /// `.git` stays.
    pub(super) keep_git_dir: bool,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// One that git could take for something else.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut address = Self {
            reference: Some(reference.to_owned()).filter(|one| !one.is_empty()),
            directory: directory.to_owned(),
            ..Self::default()
        };
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "ref" | "branch" | "tag" | "commit" => address.reference = Some(value.to_owned()),
                "checksum" => address.checksum = Some(value.to_owned()),
                "subdir" => address.directory = value.to_owned(),
                "keep-git-dir" => address.keep_git_dir = value != "false",
                other => return Err(format!("unexpected query \"{other}\" in {text}")),
            }
        }
        address.url = match url {
            url if ["https://", "http://", "ssh://", "git://"]
                .iter()
                .any(|scheme| url.starts_with(scheme)) =>
            {
                url.to_owned()
            }
            url if url.starts_with("git@") && url.contains(':') => url.to_owned(),
            url if url.starts_with("github.com/") => format!("https://{url}"),
            _ => return Err(format!("{text} is no address of a git repository")),
        };
        let host = address.host();
        let strange = |word: &str| word.starts_with('-') || word.chars().any(char::is_control);
        let parts = [host.as_str(), address.reference.as_deref().unwrap_or_default()];
        if host.is_empty() || parts.iter().any(|part| strange(part)) || strange(&address.url) {
            return Err(format!("{text:?} is no address of a git repository"));
        }
        Ok(address)
    }

    /// `host[:port]`.
    pub(super) fn host(&self) -> String {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        match self.url.contains("://") {
            true => host.to_owned(),
            false => host.split(':').next().unwrap_or_default().to_owned(),
        }
    }

    /// `#ref:directory`, as far as there is one.
    pub(super) fn fragment(&self) -> String {
        match (&self.reference, self.directory.as_str()) {
            (None, "") => String::new(),
            (reference, "") => format!("#{}", reference.as_deref().unwrap_or_default()),
            (reference, directory) => format!("#{}:{directory}", reference.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_strange_ones_refused() {
        let of = |text: &str| Address::parse(text);
        let address = of("https://user@example.org:8443/a/b.git#v1:sub/dir").unwrap();
        assert_eq!((address.reference.as_deref(), address.directory.as_str()), (Some("v1"), "sub/dir"));
        assert_eq!(
            (address.host().as_str(), address.fragment().as_str()),
            ("example.org:8443", "#v1:sub/dir")
        );
        assert_eq!(of("git@host:a/b").unwrap().host(), "host");
        assert_eq!(of("github.com/a/b").unwrap().url, "https://github.com/a/b");
        assert_eq!(of("https://h/a?ref=x&subdir=y").unwrap().fragment(), "#x:y");
        let bad = [
            "file:///etc",
            "ext::sh -c x",
            "ssh://-oProxyCommand=x/y",
            "https://h/a#--upload-pack=x",
            "https:///a",
            "https://h/a?x=y",
            "git@-o:x",
        ];
        for text in bad {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
