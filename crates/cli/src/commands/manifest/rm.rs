//! `wharf manifest rm`.

use super::list::Lists;
use super::{Outcome, named};
use crate::connect::Target;
use crate::error::say;

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    #[arg(value_name = "MANIFEST_LIST", required = true)]
    lists: Vec<String>,
}

impl Rm {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let lists = Lists::of(target);
        let mut code = 0;
        for name in &self.lists {
            let removed =
                named(name).and_then(|list| lists.existing(&list).and_then(|_| lists.remove(&list)));
            if let Err(error) = removed {
                say(error.message());
                code = 1;
            }
        }
        Ok(code)
    }
}
