//! `wharf manifest inspect`.

use wharf_distribution::client::{self, Manifests};
use wharf_oci::Reference;

use super::list::{self, Lists};
use super::{Described, Outcome, fetch, missing, named, repository};
use crate::connect::Target;
use crate::error::{CliError, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    #[arg(value_name = "[MANIFEST_LIST] MANIFEST", num_args = 1..=2, required = true)]
    names: Vec<String>,
}

impl Inspect {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let lists = Lists::of(target);
        let text = match self.names.as_slice() {
            [list, manifest] => match lists.manifest(&named(list)?, &named(manifest)?)? {
                Some(kept) if self.verbose => kept.shown()?,
                Some(kept) => indented(&kept.bytes()?),
                None => self.ask(target, &named(manifest)?).await?,
            },
            names => {
                let reference = named(names.first().map(String::as_str).unwrap_or_default())?;
                match lists.get(&reference)? {
                    Some(kept) if self.verbose => Described::shown_all(&kept)?,
                    Some(kept) => {
                        let descriptors: Vec<_> = kept.iter().map(|manifest| &manifest.descriptor).collect();
                        list::document(&descriptors).0
                    }
                    None => self.ask(target, &reference).await?,
                }
            }
        };
        print(&text)?;
        Ok(0)
    }

    /// What the registry has.
    async fn ask(&self, target: &Target, reference: &Reference) -> Result<String, CliError> {
        let repository = repository(target, reference, self.insecure)?;
        let document = fetch(&repository, reference).await?;
        if !self.verbose {
            return Ok(match &document.manifests {
                Manifests::Image(_) => indented(&document.bytes),
                Manifests::Index(index) => list::document(&index.manifests.iter().collect::<Vec<_>>()).0,
            });
        }
        let exact = |digest| reference.without_suffix().with_digest(digest).familiar();
        let Manifests::Index(index) = &document.manifests else {
            let name = if reference.digest().is_none() {
                reference.familiar()
            } else {
                exact(document.descriptor.digest)
            };
            return Described::of(&repository, name, &document).await?.shown();
        };
        let mut all = Vec::new();
        for entry in &index.manifests {
            let child = repository.manifest(&client::Target::Digest(entry.digest), Some(entry)).await;
            let mut child = child.map_err(|error| missing(reference, &error))?;
            child.descriptor.platform.clone_from(&entry.platform);
            let name = match entry.platform {
                Some(_) if reference.digest().is_none() => reference.familiar(),
                _ => exact(entry.digest),
            };
            all.push(Described::of(&repository, name, &child).await?);
        }
        Described::shown_all(&all)
    }
}

/// JSON as received, in its own order, indented by tabs.
pub(super) fn indented(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (mut out, mut depth) = (String::new(), 0_usize);
    let (mut quoted, mut escaped) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n('\t', depth));
        };
        match c {
            c if c.is_whitespace() => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
                if chars.peek().is_some_and(|next| !matches!(next, '}' | ']')) {
                    depth += 1;
                    line(&mut out, depth);
                } else {
                    out.extend(chars.next());
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                out.push(c);
                quoted = c == '"';
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_in_its_own_order() {
        let text = r#"{"b": [1,{"x":"a,\"b:{"}],  "a":{}, "c":[ ]}"#;
        assert_eq!(
            indented(text.as_bytes()),
            "{\n\t\"b\": [\n\t\t1,\n\t\t{\n\t\t\t\"x\": \"a,\\\"b:{\"\n\t\t}\n\t],\n\t\"a\": {},\n\t\"c\": []\n}"
        );
    }
}
