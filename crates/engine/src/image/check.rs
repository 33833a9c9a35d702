//! Looking at everything that is kept, and mending it: here where that is possible, else with what a registry still has.

use std::collections::BTreeSet;
use std::sync::Arc;

use wharf_api::{CheckFinding, SystemCheck};
use wharf_distribution::client::Credentials;
use wharf_oci::{Digest, Reference};
use wharf_store::{Damage, Finding, Report};

use super::{Images, PullOptions};
use crate::error::Result;

impl Images {
    /// Verifies all blobs, layers, images and names. With `repair`, layers are unpacked again, what nobody needs is
    /// freed, and blobs that are lost are fetched again from where their images came. `quick`: what is there is
    /// believed to be what it was, if it has its size.
    pub async fn check(self: &Arc<Self>, repair: bool, quick: bool) -> Result<SystemCheck> {
        let look = move |images: &Self| match quick {
            true => images.store.check_quickly(repair),
            false => images.store.check(repair, &|_| {}),
        };
        let mut report = self.run(move |images| Ok(look(images)?)).await?;
        if repair {
            self.fetch_again(&mut report).await;
        }
        let Report { blobs, bytes, layers, images, findings } = report;
        Ok(SystemCheck { blobs, bytes, layers, images, findings: findings.iter().map(document).collect() })
    }

    /// Fetches blobs that are lost; those that cannot be had stay as they were found.
    async fn fetch_again(self: &Arc<Self>, report: &mut Report) {
        let lost = |finding: &&mut Finding| {
            matches!(finding.damage, Damage::MissingBlob | Damage::CorruptBlob) && !finding.repaired
        };
        let images: BTreeSet<Digest> =
            report.findings.iter_mut().filter(lost).flat_map(|finding| finding.images.clone()).collect();
        for image in images {
            for name in self.store.names_of(&image).into_iter().filter(|name| name.digest().is_some()) {
                if let Err(error) = self.fetch_image(&image, name).await {
                    tracing::warn!("fetch image {image} again: {error}");
                } else {
                    break;
                }
            }
        }
        for finding in report.findings.iter_mut().filter(lost) {
            let digest = finding.object.parse::<Digest>().ok();
            finding.repaired = digest.is_some_and(|digest| self.store.has_blob(&digest));
        }
    }

    async fn fetch_image(self: &Arc<Self>, image: &Digest, reference: Reference) -> Result<()> {
        let platform = self.store.image(image).map(|image| image.platform.clone());
        let options = PullOptions { reference, platform, credentials: Credentials::Anonymous };
        let mut progress = self.pull(options).await?;
        while let Some(message) = progress.next().await {
            // What went wrong shows in what is missing afterwards.
            message?;
        }
        Ok(())
    }
}

fn document(finding: &Finding) -> CheckFinding {
    let damage = match finding.damage {
        Damage::MissingBlob => "missing blob",
        Damage::CorruptBlob => "corrupt blob",
        Damage::MissingLayer => "missing layer",
        Damage::CorruptLayer => "corrupt layer",
        Damage::DanglingName => "dangling name",
        Damage::Orphan => "orphan",
    };
    CheckFinding {
        damage: damage.to_owned(),
        object: finding.object.clone(),
        images: finding.images.iter().map(ToString::to_string).collect(),
        repaired: finding.repaired,
    }
}
