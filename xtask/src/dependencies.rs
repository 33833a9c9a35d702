//! The direction of dependencies, as a check over `cargo metadata`: what each crate may reach, transitively.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The law: a crate, and the crates of this workspace it may reach through any number of steps.
/// `testkit`, `xtask` and the root binary stand outside it.
const MAY_REACH: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("oci", &[]),
    ("api", &["oci"]),
    ("layer", &["sys", "oci"]),
    ("store", &["layer", "sys", "oci"]),
    ("runtime", &["sys", "oci"]),
    ("shim", &["sys", "oci"]),
    ("supervisor", &["shim", "runtime", "sys", "oci"]),
    ("network", &["sys"]),
    ("distribution", &["oci"]),
    ("build", &["store", "layer", "sys", "oci"]),
    ("engine", &["build", "store", "distribution", "network", "layer", "shim", "sys", "oci", "api"]),
    (
        "daemon",
        &["engine", "build", "store", "distribution", "network", "layer", "shim", "sys", "oci", "api"],
    ),
    ("cli", &["build", "store", "layer", "sys", "distribution", "api", "oci"]),
];

/// What `daemon` may name itself; the rest it reaches only through the engine.
const DAEMON_NAMES: &[&str] = &["engine", "build", "api", "oci"];

/// Crates that only these may name: HTTP belongs to the outermost ones.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("hyper", &["api", "daemon", "cli", "distribution"]),
    ("tokio", &["api", "shim", "engine", "daemon", "cli", "distribution"]),
    ("redb", &["store"]),
    ("libc", &["sys"]),
];

/// Checks every arrow of the workspace.
///
/// # Errors
/// Names each arrow that breaks the law, or why the metadata could not be read.
pub(crate) fn check() -> Result<String> {
    let graph = graph()?;
    let mut broken = Vec::new();
    for (name, direct) in graph.iter().filter(|(name, _)| name.starts_with("wharf-")) {
        let short = short(name);
        for (foreign, owners) in ONLY_IN {
            if direct.contains(*foreign) && !owners.contains(&short) && short != "testkit" {
                broken.push(format!("{short} names {foreign}, which only {} may", owners.join(", ")));
            }
        }
        if short == "testkit" {
            continue;
        }
        let Some((_, allowed)) = MAY_REACH.iter().find(|(known, _)| *known == short) else {
            broken.push(format!("{short} has no line in the law: add one to xtask/src/dependencies.rs"));
            continue;
        };
        for reached in reachable(&graph, name) {
            if !allowed.contains(&self::short(&reached)) {
                broken.push(format!("{short} reaches {}", self::short(&reached)));
            }
        }
        if short == "daemon" {
            for other in direct.iter().filter(|other| other.starts_with("wharf-")) {
                if !DAEMON_NAMES.contains(&self::short(other)) {
                    broken.push(format!(
                        "daemon names {} itself; it goes through the engine",
                        self::short(other)
                    ));
                }
            }
        }
    }
    if broken.is_empty() {
        return Ok(format!("dependencies: {} crates, no forbidden arrow", MAY_REACH.len()));
    }
    bail!("forbidden arrows:\n  {}", broken.join("\n  "))
}

fn short(name: &str) -> &str {
    name.trim_start_matches("wharf-")
}

/// Each workspace package's direct, normal dependencies.
fn graph() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let direct = |package: &Value| -> BTreeSet<String> {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        dependencies
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect()
    };
    Ok(packages
        .iter()
        .map(|package| (package["name"].as_str().unwrap_or_default().to_owned(), direct(package)))
        .collect())
}

/// Every workspace crate that `start` reaches.
fn reachable(graph: &BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut queue = vec![start.to_owned()];
    while let Some(name) = queue.pop() {
        let next = graph.get(&name).into_iter().flatten().filter(|other| other.starts_with("wharf-"));
        for other in next {
            if seen.insert(other.clone()) {
                queue.push(other.clone());
            }
        }
    }
    seen
}
