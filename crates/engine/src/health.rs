//! Health probes, by Docker's rules (moby `daemon/health.go`).
//!
//! A task per running container that has a probe: it waits the interval, runs the command as an exec and
//! judges the result. It starts and ends with the container's process.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wharf_api::{ContainerConfig, Health, HealthcheckResult};
use wharf_sys::time::wall_nanos;

use crate::container::{Container, Containers, Happening, News, State};
use crate::error::{Error, Result};
use crate::exec::Execs;

/// How many results are kept.
const KEPT: usize = 5;
/// How much of a probe's output is kept, in bytes.
const MAX_OUTPUT: usize = 4096;
/// How long output may come after the process has ended: what it started may hold the stream open.
const DRAIN: Duration = Duration::from_millis(500);

const STARTING: &str = "starting";
const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

/// What a container's configuration says of its probe, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    retries: i64,
    start_period: Duration,
    start_interval: Duration,
}

impl Plan {
    /// `None`: the container has no probe.
    fn of(config: &ContainerConfig) -> Option<Self> {
        let health = config.healthcheck.as_ref()?;
        let command = match health.test.as_deref()? {
            [kind, command @ ..] if kind == "CMD" => command.to_vec(),
            [kind, line @ ..] if kind == "CMD-SHELL" => {
                let default = ["/bin/sh", "-c"].map(str::to_owned).to_vec();
                let shell = config.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or(default);
                [&shell, line].concat()
            }
            _ => return None,
        };
        let or = |nanos: i64, default: u64| match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => Duration::from_secs(default),
        };
        Some(Self {
            command,
            interval: or(health.interval, 30),
            timeout: or(health.timeout, 30),
            retries: if health.retries > 0 { health.retries } else { 3 },
            start_period: or(health.start_period, 0),
            start_interval: or(health.start_interval, 5),
        })
    }

    /// How long to wait for the next probe.
    fn wait(&self, status: &str, running: Duration) -> Duration {
        if status == STARTING && running < self.start_period { self.start_interval } else { self.interval }
    }

    /// Takes a result into account. `running`: how long the container ran when the probe began.
    fn judge(&self, health: &mut Health, result: HealthcheckResult, running: Duration) {
        if result.exit_code == 0 {
            health.failing_streak = 0;
            HEALTHY.clone_into(&mut health.status);
        } else if health.status != STARTING || running >= self.start_period {
            health.failing_streak += 1;
            if health.failing_streak >= self.retries {
                UNHEALTHY.clone_into(&mut health.status);
            }
        }
        health.log.push(result);
        let surplus = health.log.len().saturating_sub(KEPT);
        health.log.drain(..surplus);
    }
}

/// Probes the containers of `containers` from now on. Within the async runtime.
pub fn watch(containers: &Arc<Containers>, execs: Arc<Execs>) {
    let mut news = containers.listen();
    let containers = Arc::downgrade(containers);
    tokio::spawn(async move {
        let mut monitors: HashMap<String, JoinHandle<()>> = HashMap::new();
        while let Some(News { container, what }) = news.recv().await {
            let Some(containers) = containers.upgrade() else { return };
            match what {
                Happening::Started => {
                    let Some(monitor) = Monitor::new(containers, execs.clone(), container.clone()) else {
                        continue;
                    };
                    let task = tokio::spawn(monitor.run());
                    if let Some(old) = monitors.insert(container.id().to_owned(), task) {
                        old.abort();
                    }
                }
                Happening::Ended => {
                    if let Some(task) = monitors.remove(container.id()) {
                        task.abort();
                        ended(&container);
                    }
                }
                Happening::Removed => {
                    if let Some(task) = monitors.remove(container.id()) {
                        task.abort();
                    }
                }
                Happening::LogRotated
                | Happening::ExecExited { .. }
                | Happening::ExecDetached { .. }
                | Happening::ExecsFound(_) => {}
            }
        }
    });
}

/// Docker calls a container unhealthy that nobody probes any more.
fn ended(container: &Container) {
    if let Some(health) = container.health() {
        container.set_health(Some(Health { status: UNHEALTHY.to_owned(), ..(*health).clone() }));
    }
}

/// The probing of one run of one container.
#[derive(Debug)]
struct Monitor {
    containers: Arc<Containers>,
    execs: Arc<Execs>,
    container: Arc<Container>,
    plan: Plan,
    started: Instant,
}

impl Monitor {
    /// `None`: there is nothing to probe.
    fn new(containers: Arc<Containers>, execs: Arc<Execs>, container: Arc<Container>) -> Option<Self> {
        let view = container.view();
        let plan = Plan::of(&view.record.config)?;
        let ran = match view.state() {
            State::Running(running) => wall_nanos().saturating_sub(running.started_at.0),
            _ => 0,
        };
        let now = Instant::now();
        let ran = Duration::from_nanos(u64::try_from(ran).unwrap_or(0));
        let log = container.health().map(|health| health.log.clone()).unwrap_or_default();
        container.set_health(Some(Health { status: STARTING.to_owned(), failing_streak: 0, log }));
        Some(Self { containers, execs, container, plan, started: now.checked_sub(ran).unwrap_or(now) })
    }

    async fn run(self) {
        loop {
            let status = self.container.health().map(|health| health.status.clone()).unwrap_or_default();
            tokio::time::sleep(self.plan.wait(&status, self.started.elapsed())).await;
            // Nothing runs in a frozen container, and that is not its fault.
            if !matches!(self.container.view().state(), State::Running(_)) {
                continue;
            }
            let running = self.started.elapsed();
            let start = wall_nanos();
            let (exit_code, output) = self.probe().await;
            let result =
                HealthcheckResult { start: go_time(start), end: go_time(wall_nanos()), exit_code, output };
            self.record(result, running);
        }
    }

    fn record(&self, result: HealthcheckResult, running: Duration) {
        let mut health = self.container.health().map(|health| (*health).clone()).unwrap_or_default();
        let before = health.status.clone();
        self.plan.judge(&mut health, result, running);
        let status = health.status.clone();
        self.container.set_health(Some(health));
        if status != before {
            let record = &self.container.view().record;
            self.containers.emit(record, &format!("health_status: {status}"), &[]);
        }
    }

    /// Runs the probe; its exit code (-1: it could not be run or took too long) and its output.
    async fn probe(&self) -> (i64, String) {
        let mut output = Output::default();
        let timeout = self.plan.timeout;
        match tokio::time::timeout(timeout, self.run_command(&mut output)).await {
            Ok(Ok(code)) => (i64::from(code), output.text()),
            Ok(Err(error)) => (-1, error.message().to_owned()),
            Err(_) => {
                if let Some(probe) = &output.probe {
                    probe.kill().await;
                    self.execs.forget(probe);
                }
                let text = output.text();
                let colon = if text.is_empty() { "" } else { ": " };
                (-1, format!("Health check exceeded timeout ({}){colon}{text}", go_duration(timeout)))
            }
        }
    }

    async fn run_command(&self, output: &mut Output) -> Result<i32> {
        let (probe, stream) = self.execs.probe(&self.container, self.plan.command.clone()).await?;
        let probe = output.probe.insert(probe);
        let reading = collect(stream, &mut output.bytes);
        tokio::pin!(reading);
        let code = tokio::select! {
            code = probe.ended() => {
                // What is in the stream already belongs to the result.
                let _ = tokio::time::timeout(DRAIN, &mut reading).await;
                code
            }
            read = &mut reading => {
                read?;
                probe.ended().await
            }
        };
        self.execs.forget(probe);
        Ok(code)
    }
}

/// What a probe has brought so far; survives its being cut off.
#[derive(Debug, Default)]
struct Output {
    probe: Option<crate::exec::Probe>,
    bytes: Vec<u8>,
}

impl Output {
    fn text(&self) -> String {
        let kept = &self.bytes[..self.bytes.len().min(MAX_OUTPUT)];
        let mut text = String::from_utf8_lossy(kept).into_owned();
        if self.bytes.len() > MAX_OUTPUT {
            text.push_str("...");
        }
        text
    }
}

/// Reads to the end, keeping no more than needed to know that there was more than is kept.
async fn collect(stream: UnixStream, bytes: &mut Vec<u8>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("read a probe's output", &error);
    stream.set_nonblocking(true).map_err(failed)?;
    let mut stream = tokio::net::UnixStream::from_std(stream).map_err(failed)?;
    let mut buffer = [0; 2048];
    loop {
        let length = stream.read(&mut buffer).await.map_err(failed)?;
        if length == 0 {
            return Ok(());
        }
        let room = (MAX_OUTPUT + 1).saturating_sub(bytes.len()).min(length);
        bytes.extend_from_slice(&buffer[..room]);
    }
}

/// RFC 3339 with as many digits as needed, as Go writes times.
fn go_time(nanos: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(nanos)) {
        Ok(time) => time.to_string(),
        Err(_) => wharf_api::NEVER.to_owned(),
    }
}

/// `1m30s`, `1.5s`, `500ms`: as Go prints durations.
fn go_duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        let (value, unit) = match duration.as_nanos() {
            0 => return "0s".to_owned(),
            nanos @ ..1_000 => (nanos as f64, "ns"),
            nanos @ ..1_000_000 => (nanos as f64 / 1e3, "µs"),
            nanos => (nanos as f64 / 1e6, "ms"),
        };
        return format!("{value}{unit}");
    }
    let (whole, seconds) = (duration.as_secs(), (duration.as_nanos() % 60_000_000_000) as f64 / 1e9);
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use wharf_api::HealthConfig;

    use super::*;

    fn plan(test: &[&str]) -> Option<Plan> {
        let test = Some(test.iter().map(|word| (*word).to_owned()).collect());
        let healthcheck = Some(HealthConfig { test, retries: 2, ..HealthConfig::default() });
        Plan::of(&ContainerConfig { healthcheck, ..ContainerConfig::default() })
    }

    fn result(exit_code: i64) -> HealthcheckResult {
        HealthcheckResult { exit_code, ..HealthcheckResult::default() }
    }

    #[test]
    fn commands_are_found_and_defaults_filled_in() {
        assert_eq!(plan(&["NONE"]), None);
        assert_eq!(plan(&[]), None);
        assert_eq!(plan(&["CMD", "a", "b"]).unwrap().command, ["a", "b"]);
        let shell = plan(&["CMD-SHELL", "a | b"]).unwrap();
        assert_eq!(shell.command, ["/bin/sh", "-c", "a | b"]);
        assert_eq!((shell.interval.as_secs(), shell.timeout.as_secs(), shell.retries), (30, 30, 2));
    }

    #[test]
    fn failures_count_after_the_start_period_or_the_first_success() {
        let plan = Plan { start_period: Duration::from_secs(10), ..plan(&["CMD", "x"]).unwrap() };
        let mut health = Health { status: STARTING.into(), ..Health::default() };
        plan.judge(&mut health, result(1), Duration::from_secs(9));
        assert_eq!((health.status.as_str(), health.failing_streak), (STARTING, 0));
        plan.judge(&mut health, result(1), Duration::from_secs(10));
        assert_eq!((health.status.as_str(), health.failing_streak), (STARTING, 1));
        plan.judge(&mut health, result(0), Duration::from_secs(11));
        assert_eq!((health.status.as_str(), health.failing_streak), (HEALTHY, 0));
        plan.judge(&mut health, result(-1), Duration::from_secs(5));
        plan.judge(&mut health, result(2), Duration::from_secs(5));
        assert_eq!((health.status.as_str(), health.failing_streak), (UNHEALTHY, 2));
        plan.judge(&mut health, result(0), Duration::from_secs(5));
        assert_eq!((health.status.as_str(), health.log.len()), (HEALTHY, KEPT));
    }

    #[test]
    fn probes_come_faster_while_starting() {
        let plan = Plan { start_period: Duration::from_secs(10), ..plan(&["CMD", "x"]).unwrap() };
        assert_eq!(plan.wait(STARTING, Duration::from_secs(1)), plan.start_interval);
        assert_eq!(plan.wait(HEALTHY, Duration::from_secs(1)), plan.interval);
        assert_eq!(plan.wait(STARTING, Duration::from_secs(10)), plan.interval);
    }

    #[test]
    fn durations_and_times_print_as_in_go() {
        for (millis, text) in [
            (0, "0s"),
            (500, "500ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_time(1_500_000_000), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn long_output_is_cut() {
        let output = Output { bytes: vec![b'y'; MAX_OUTPUT + 1], ..Output::default() };
        assert_eq!(output.text().len(), MAX_OUTPUT + 3);
        assert!(output.text().ends_with("y..."));
    }
}
