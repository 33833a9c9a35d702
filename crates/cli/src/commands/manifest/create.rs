//! `wharf manifest create`.

use wharf_distribution::client::Manifests;

use super::list::Lists;
use super::{Described, Outcome, fetch, named, repository};
use crate::connect::Target;
use crate::error::{CliError, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<String>,
}

impl Create {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let list = named(&self.list)
            .map_err(|error| error.within(&format!("error parsing name for manifest list {}", self.list)))?;
        let lists = Lists::of(target);
        if lists.get(&list)?.is_some() && !self.amend {
            return Err(CliError::new("refusing to amend an existing manifest list with no --amend flag"));
        }
        for name in &self.manifests {
            let reference = named(name)?;
            let described = match lists.manifest(&list, &reference)? {
                Some(kept) => kept,
                None => {
                    let repository = repository(target, &reference, self.insecure)?;
                    let document = fetch(&repository, &reference).await?;
                    if matches!(document.manifests, Manifests::Index(_)) {
                        return Err(CliError::new(format!("{} is a manifest list", reference.familiar())));
                    }
                    Described::of(&repository, reference.to_string(), &document).await?
                }
            };
            lists.save(&list, &reference, &described)?;
        }
        print(&format!("Created manifest list {list}"))?;
        Ok(0)
    }
}
