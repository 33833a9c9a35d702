//! What must be so after every restart.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use wharf_testkit::{Daemon, census, client};

use super::load::{Known, Model, Plan, Worker};

/// How long ends, removals in the background and restarts may take under load.
const PATIENCE: Duration = Duration::from_secs(20);

/// Compares the engine with what all clients were told, then the disk and the kernel with the engine.
pub fn everything(d: &Daemon, workers: &mut [Worker], round: u64) {
    for worker in &mut *workers {
        worker.models.retain_mut(|model| {
            let mut complaint = None;
            let stays = client::eventually(PATIENCE, || match check(d, model) {
                Ok(stays) => Some(stays),
                Err(text) => {
                    complaint = Some(text);
                    None
                }
            });
            stays.unwrap_or_else(|| {
                let document = d.get(&format!("/containers/{}/json", model.key())).map(|reply| reply.text());
                panic!("round {round}: {}\n{model:#?}\n{document:?}", complaint.unwrap_or_default())
            })
        });
    }
    let known: BTreeSet<String> =
        workers.iter().flat_map(|worker| &worker.models).filter_map(|model| model.id.clone()).collect();
    let mut left = Vec::new();
    let settled = client::eventually(PATIENCE, || {
        left = leftovers(d, &known);
        left.is_empty().then_some(())
    });
    assert!(settled.is_some(), "round {round}: {left:#?}");
}

/// Whether the container is still there; a complaint while something is not as it must be.
fn check(d: &Daemon, model: &mut Model) -> Result<bool, String> {
    let reply = d.get(&format!("/containers/{}/json", model.key())).map_err(|error| error.to_string())?;
    if reply.status == 404 {
        let may_go = model.plan == Plan::Vanishing && model.started != Known::No;
        return if may_go || model.exists != Known::Yes { Ok(false) } else { Err("it is lost".to_owned()) };
    }
    let document = reply.json();
    if model.exists == Known::No {
        return Err("it is back".to_owned());
    }
    let id = document["Id"].as_str().map(str::to_owned);
    let name = document["Name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    ensure(model.id.is_none() || model.id == id, "another has its name")?;
    ensure(name == model.name || model.renamed.as_ref() == Some(&name), "its name is wrong")?;
    state(model, &document["State"], document["RestartCount"].as_u64().unwrap_or(0))?;
    log(d, model, &document["State"])?;
    (model.id, model.name, model.renamed, model.exists) = (id, name, None, Known::Yes);
    settle(model, document["State"]["Status"].as_str().unwrap_or_default());
    Ok(true)
}

fn ensure(so: bool, complaint: &str) -> Result<(), String> {
    if so { Ok(()) } else { Err(complaint.to_owned()) }
}

fn state(model: &Model, state: &Value, restarts: u64) -> Result<(), String> {
    let status = state["Status"].as_str().unwrap_or_default();
    let code = state["ExitCode"].as_u64().unwrap_or(u64::MAX);
    let right = code == model.code || (model.disturbed && code == 137);
    match status {
        "created" => ensure(model.started != Known::Yes, "it was started")?,
        "exited" => {
            ensure(model.started != Known::No, "nobody started it")?;
            ensure(right, "its exit code is wrong")?;
            ensure(
                state["FinishedAt"].as_str().is_some_and(|at| at.starts_with("20")),
                "no time of its end",
            )?;
        }
        "running" => {
            ensure(model.started != Known::No, "nobody started it")?;
            ensure(model.stopped != Known::Yes, "it was stopped")?;
            let pid = state["Pid"].as_u64().unwrap_or(0);
            ensure(Path::new(&format!("/proc/{pid}")).exists(), "its process is gone")?;
        }
        "restarting" => ensure(matches!(model.plan, Plan::Failing | Plan::Returning), "it has no policy")?,
        _ => return Err(format!("its state is {status}")),
    }
    if model.started != Known::Yes || model.disturbed {
        return Ok(());
    }
    match model.plan {
        Plan::Brief => ensure(status == "exited", "it has not ended"),
        Plan::Vanishing => Err("it is still there".to_owned()),
        Plan::Steady => ensure(status == "running", "it does not run on"),
        Plan::Failing => ensure(status == "exited" && restarts == 2, "its policy was not applied"),
        Plan::Returning => ensure(matches!(status, "running" | "restarting"), "it was not started again"),
    }
}

/// Every run's lines count from 0 without a gap; only a run that was stopped is short.
fn log(d: &Daemon, model: &Model, state: &Value) -> Result<(), String> {
    let target = format!("/containers/{}/logs?stdout=1&stderr=1", model.key());
    let reply = d.get(&target).map_err(|error| error.to_string())?;
    ensure(reply.status == 200, "its log cannot be read")?;
    let lines = model.plan.lines().0;
    let (mut next, mut runs) = (0, 0);
    for line in demultiplex(&reply.body)?.lines() {
        let Some(number) =
            line.strip_suffix(" the quick brown fox").and_then(|number| number.parse::<u64>().ok())
        else {
            return Err(format!("torn line {line:?}"));
        };
        if number == 0 {
            ensure(runs == 0 || next == lines || model.disturbed, "a run's last lines are missing")?;
            (next, runs) = (0, runs + 1);
        }
        if number != next {
            return Err(format!("line {number} where {next} should be, run {runs}"));
        }
        next += 1;
    }
    let ended = state["Status"] == "exited" && state["ExitCode"].as_u64() == Some(model.code);
    ensure(!ended || model.disturbed || next == lines, "the last run's last lines are missing")?;
    let all = if model.plan == Plan::Failing { 3 } else { 1 };
    ensure(!ended || runs >= all || model.disturbed, "a run's lines are missing")
}

fn demultiplex(mut body: &[u8]) -> Result<String, String> {
    let mut text = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<8>() {
        let size = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        text.extend_from_slice(rest.get(..size).ok_or("a frame of the log is short")?);
        body = &rest[size..];
    }
    String::from_utf8(text).map_err(|error| error.to_string())
}

/// What was in doubt is now as the engine says.
fn settle(model: &mut Model, status: &str) {
    let active = matches!(status, "running" | "restarting");
    model.started = match status {
        "created" => Known::No,
        _ => Known::Yes,
    };
    if model.stopped == Known::Maybe {
        model.stopped = if active { Known::No } else { Known::Yes };
    }
}

/// What the disk and the kernel hold beyond the containers that are `known`.
fn leftovers(d: &Daemon, known: &BTreeSet<String>) -> Vec<String> {
    let mut left = Vec::new();
    let listed = match d.get("/containers/json?all=1") {
        Ok(reply) => reply.json(),
        Err(error) => return vec![error.to_string()],
    };
    let (mut all, mut active, mut volumes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for one in listed.as_array().into_iter().flatten() {
        let id = one["Id"].as_str().unwrap_or_default().to_owned();
        if matches!(one["State"].as_str(), Some("running" | "restarting")) {
            active.insert(id.clone());
        }
        volumes.extend(
            one["Mounts"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|mount| mount["Name"].as_str().map(str::to_owned)),
        );
        all.insert(id);
    }
    left.extend(all.difference(known).map(|id| format!("a container nobody made: {id}")));
    left.extend(census::stray_files(&d.path("data"), &d.path("run"), &all, &active));
    left.extend(census::stray_groups(d.instance(), &active));
    let made = d.get("/volumes").map(|reply| reply.json()).unwrap_or_default();
    let made = made["Volumes"].as_array().into_iter().flatten().filter_map(|one| one["Name"].as_str());
    left.extend(
        made.filter(|name| !volumes.contains(*name)).map(|name| format!("a volume nobody uses: {name}")),
    );
    let folder = d.path("").to_string_lossy().into_owned();
    let supervisors = census::processes(&folder).into_iter().filter(|line| line.contains("supervisor"));
    left.extend(supervisors.filter(|line| !active.iter().any(|id| line.contains(id.as_str()))));
    left.extend(census::mounts(d.instance()));
    left
}
