//! `wharf logs`.

use http_body_util::BodyExt;
use hyper::Method;
use tokio::io::AsyncReadExt;
use wharf_api::ContainerInspect;
use wharf_api::client::{Body, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::CliError;
use crate::filters::path;
use crate::streams;

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    since: String,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "STRING", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    until: String,
    container: String,
}

impl Logs {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let container: ContainerInspect =
            client.get(&format!("/containers/{}/json", escape(&self.container))).await?;
        let flag = |set: bool| if set { "1" } else { "" };
        let query = [
            ("stdout", "1"),
            ("stderr", "1"),
            ("follow", flag(self.follow)),
            ("details", flag(self.details)),
            ("timestamps", flag(self.timestamps)),
            ("since", &escape(&moment(&self.since)?)),
            ("until", &escape(&moment(&self.until)?)),
            ("tail", &escape(&self.tail)),
        ];
        let answer = client
            .send(Method::GET, &path(&format!("/containers/{}/logs", container.id), &query), Body::Empty, &[])
            .await?;
        let (mut sink, source) = tokio::io::duplex(256 * 1024);
        let tty = container.config.tty;
        let shown =
            tokio::spawn(
                async move { if tty { plain(source).await } else { streams::unframe(source).await } },
            );
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CliError::new(error.to_string()))?;
            if let Ok(bytes) = frame.into_data()
                && tokio::io::AsyncWriteExt::write_all(&mut sink, &bytes).await.is_err()
            {
                break;
            }
        }
        drop(sink);
        shown.await.map_err(|error| CliError::new(error.to_string()))??;
        Ok(0)
    }
}

async fn plain(mut source: impl tokio::io::AsyncRead + Unpin) -> Result<(), CliError> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = source.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        std::io::Write::write_all(&mut std::io::stdout(), &buffer[..count])?;
    }
}

/// A moment as the daemon wants it, seconds and nanoseconds: a duration means that long ago, a date without a zone is
/// of the local one.
pub(super) fn moment(text: &str) -> Result<String, CliError> {
    let seconds = |nanoseconds: i128| {
        format!("{}.{:09}", nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000))
    };
    if let Ok(nanoseconds) = crate::container_flags::duration(text) {
        return Ok(seconds(jiff::Timestamp::now().as_nanosecond() - i128::from(nanoseconds)));
    }
    if !text.contains('-') {
        return Ok(text.to_owned());
    }
    let wrong = || CliError::new(format!("failed to parse value as time or duration: \"{text}\""));
    let moment = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            let (date, zone) = text
                .strip_suffix('Z')
                .map_or((text, jiff::tz::TimeZone::system()), |date| (date, jiff::tz::TimeZone::UTC));
            let date = if date.contains('T') && date.matches(':').count() == 0 {
                format!("{date}:00")
            } else {
                date.to_owned()
            };
            let date: jiff::civil::DateTime = date.parse().map_err(|_| wrong())?;
            date.to_zoned(zone).map_err(|_| wrong())?.timestamp()
        }
    };
    Ok(seconds(moment.as_nanosecond()))
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_become_seconds() {
        assert_eq!(moment("2024-01-01T00:00:00Z").unwrap(), "1704067200.000000000");
        assert_eq!(moment("2024-01-01T01:00:00.5+01:00").unwrap(), "1704067200.500000000");
        assert_eq!(moment("2024-01-01Z").unwrap(), "1704067200.000000000");
        assert_eq!(moment("1704067200.25").unwrap(), "1704067200.25");
        assert_eq!(moment("").unwrap(), "");
        assert!(moment("2024-13-01").is_err());
        assert!(moment("2024-01-01T00:00").is_ok());
        assert!(moment("10m").unwrap().contains('.'));
    }
}
