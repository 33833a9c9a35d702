//! Starts a daemon in the background when the default socket has none.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::connect::DEFAULT_SOCKET;
use crate::error::{CliError, say};

/// How long a daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a daemon that another command started at the same moment may take.
const SIBLING: Duration = Duration::from_secs(1);
/// Where the daemon's own messages go.
const LOG: &str = "/var/log/wharf.log";

/// `WHARF_AUTOSTART=0` turns it off.
pub(crate) fn wanted() -> bool {
    std::env::var_os("WHARF_AUTOSTART").is_none_or(|value| value != "0")
}

/// Starts it and waits until its socket is there.
pub(crate) async fn start() -> Result<(), CliError> {
    let failed =
        |what: &str, error: &std::io::Error| CliError::new(format!("start a daemon: {what}: {error}"));
    let log =
        std::fs::File::options().create(true).append(true).open(LOG).map_err(|error| failed(LOG, &error))?;
    let copy = log.try_clone().map_err(|error| failed(LOG, &error))?;
    say(&format!("wharf: no daemon at {DEFAULT_SOCKET}; starting one (its log: {LOG})"));
    let mut child = Command::new("/proc/self/exe")
        .arg0("wharf")
        .arg("daemon")
        .stdin(Stdio::null())
        .stdout(copy)
        .stderr(log)
        .process_group(0)
        .current_dir("/")
        .spawn()
        .map_err(|error| failed("wharf daemon", &error))?;
    let begun = Instant::now();
    while std::os::unix::net::UnixStream::connect(DEFAULT_SOCKET).is_err() {
        // One that ends at once may have met another that was started beside it and is about to answer.
        if let Ok(Some(status)) = child.try_wait()
            && begun.elapsed() > SIBLING
        {
            return Err(CliError::new(format!("start a daemon: it ended with {status}; see {LOG}")));
        }
        if begun.elapsed() > PATIENCE {
            return Err(CliError::new(format!("start a daemon: no answer within {PATIENCE:?}; see {LOG}")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
