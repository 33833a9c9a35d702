//! `wharf system dial-stdio`.

use tokio::io::AsyncWriteExt;

use super::Outcome;
use crate::connect::Target;

#[derive(Debug, clap::Args)]
pub(crate) struct DialStdio {}

impl DialStdio {
    /// Carries standard input and output to the daemon's socket: the far end of `ssh://`.
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let (mut reader, mut writer) = tokio::io::split(target.connect().await?.raw().await?);
        let sent = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut writer).await;
            let _ = writer.shutdown().await;
            std::future::pending::<()>().await;
        });
        tokio::io::copy(&mut reader, &mut tokio::io::stdout()).await?;
        sent.abort();
        Ok(0)
    }
}
