//! Questions to the Dockerfile frontend that build nothing: its findings, its targets, its parameters.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_build::dockerfile::{
    Argument, Dockerfile, Instruction, Lines, Located, MountKind, MountSpec, Stage,
};
use wharf_engine::ErrorKind;
use wharf_engine::build::{BuildFailure, BuildRequest, Planned};

use super::attributes::Attributes;
use super::frontend::Answer;
use super::solve::Solving;

/// The version of all answers' forms.
const VERSION: &str = "1.0.0";

/// The names of the questions, and what they are for.
const QUESTIONS: [(&str, &str); 4] = [
    ("frontend.lint", "Lint a Dockerfile"),
    ("frontend.outline", "List all parameters current build target supports"),
    ("frontend.targets", "List all targets current build supports"),
    ("frontend.subrequests.describe", "List available subrequest types"),
];

/// The answer to what questions there are.
pub(super) fn described(given: &Attributes) -> Option<Answer> {
    if given.get("requestid").map(String::as_str) != Some("frontend.subrequests.describe") {
        return None;
    }
    let metadata =
        json!([{"name": "result.json", "description": ""}, {"name": "result.txt", "description": ""}]);
    let question = |(name, description): &(&str, &str)| {
        let target = json!([{"name": "target", "description": "Target build stage"}]);
        let opts = if *name == "frontend.outline" { target } else { json!([]) };
        json!({
            "name": name, "version": VERSION, "type": "rpc", "description": description,
            "opts": opts, "inputs": null, "metadata": metadata, "refs": null,
        })
    };
    Some(said(&Value::Array(QUESTIONS.iter().map(question).collect())))
}

/// The answer to a question; `None`: a build is asked for.
pub(super) async fn answer(
    solving: &Arc<Solving>,
    given: &Attributes,
    request: &BuildRequest,
) -> Result<Option<Answer>, BuildFailure> {
    let Some(question) = given.get("requestid").filter(|question| !question.is_empty()) else {
        return Ok(None);
    };
    if !QUESTIONS.iter().any(|(name, _)| name == question) {
        let why = format!("unsupported request {question}");
        return Err(BuildFailure::new(ErrorKind::NotImplemented, why));
    }
    let planned = solving.build.plan(request.clone()).await;
    if question == "frontend.lint" {
        return lint(planned).map(Some);
    }
    let planned = planned?;
    let Some(planned) = planned.first() else { return Ok(Some(Answer::default())) };
    let mut value =
        if question == "frontend.targets" { targets(&planned.dockerfile) } else { outline(planned, request) };
    value["sources"] = json!([STANDARD.encode(planned.file.1.as_bytes())]);
    Ok(Some(said(&value)))
}

fn said(value: &Value) -> Answer {
    let mut answer = Answer::default();
    // A value always serialises.
    let text = serde_json::to_vec_pretty(value).unwrap_or_default();
    answer.metadata.insert("result.txt".to_owned(), text.clone());
    answer.metadata.insert("result.json".to_owned(), text);
    answer.metadata.insert("version".to_owned(), VERSION.as_bytes().to_vec());
    answer
}

fn location(lines: Lines) -> Value {
    json!({"ranges": [{"start": {"line": lines.first}, "end": {"line": lines.last}}]})
}

fn source(file: &str, text: &str) -> Value {
    json!({"filename": file, "data": STANDARD.encode(text.as_bytes()), "language": "Dockerfile"})
}

/// What could be better, and what is wrong.
fn lint(planned: Result<Vec<Planned>, BuildFailure>) -> Result<Answer, BuildFailure> {
    let (warnings, file, failure) = match planned {
        Ok(planned) => {
            let Some(first) = planned.into_iter().next() else { return Ok(Answer::default()) };
            (first.plan.warnings, first.file, None)
        }
        Err(failure) if failure.foreign => return Err(failure),
        Err(failure) => {
            let Some(place) = failure.place.clone() else { return Err(failure) };
            (Vec::new(), (place.file.clone(), place.text.clone()), Some((failure.message, place.lines)))
        }
    };
    let warning = |found: &wharf_build::dockerfile::Warning| {
        json!({
            "ruleName": found.rule.name, "description": found.rule.description, "url": found.rule.url(),
            "detail": found.message, "location": location(found.lines),
        })
    };
    let found = warnings.len();
    let listed = if found == 0 { Value::Null } else { warnings.iter().map(warning).collect() };
    let mut value = json!({"warnings": listed, "sources": [source(&file.0, &file.1)]});
    if let Some((message, lines)) = &failure {
        value["buildError"] = json!({"message": message, "location": location(*lines)});
    }
    let mut answer = said(&value);
    let status = if found > 0 || failure.is_some() { "1" } else { "0" };
    answer.metadata.insert("result.statuscode".to_owned(), status.as_bytes().to_vec());
    Ok(answer)
}

/// What a comment above something says of it: it begins with its name.
fn description(comments: &[String], name: &str) -> Option<String> {
    let says =
        |comment: &String| Some(comment.trim().strip_prefix(name)?.strip_prefix(' ')?.trim().to_owned());
    comments.iter().find_map(says)
}

fn targets(dockerfile: &Dockerfile) -> Value {
    let last = dockerfile.stages.len().saturating_sub(1);
    let target = |(at, stage): (usize, &Stage)| {
        let mut target = json!({"name": stage.name.clone().unwrap_or_default()});
        if at == last {
            target["default"] = json!(true);
        }
        let described = stage.name.as_deref().and_then(|name| description(&stage.comments, name));
        if let Some(described) = described {
            target["description"] = json!(described);
        }
        target["base"] = json!(stage.base);
        if let Some(platform) = &stage.platform {
            target["platform"] = json!(platform);
        }
        target["location"] = location(stage.lines);
        target
    };
    json!({"targets": dockerfile.stages.iter().enumerate().map(target).collect::<Vec<_>>()})
}

/// The parameters of a target: its arguments, and those of the stages it stands on.
fn outline(planned: &Planned, request: &BuildRequest) -> Value {
    let dockerfile = &planned.dockerfile;
    let last = dockerfile.stages.len().saturating_sub(1);
    let target = request.target.as_deref().and_then(|name| dockerfile.stage(name)).unwrap_or(last);
    let mut listed = Outline { request, args: Vec::new(), secrets: Vec::new(), ssh: Vec::new() };
    for located in &dockerfile.arguments {
        listed.arguments(located, &located.item);
    }
    for at in needed(dockerfile, target) {
        for located in &dockerfile.stages[at].instructions {
            match &located.item {
                Instruction::Arg(arguments) => listed.arguments(located, arguments),
                Instruction::Run(run) => listed.mounts(&run.mounts, located.lines),
                _ => {}
            }
        }
    }
    let mut value = json!({});
    if let Some(name) = dockerfile.stages.get(target).and_then(|stage| stage.name.as_ref()) {
        value["name"] = json!(name);
    }
    for (key, list) in [("args", listed.args), ("secrets", listed.secrets), ("ssh", listed.ssh)] {
        if !list.is_empty() {
            value[key] = Value::Array(list);
        }
    }
    value
}

/// The stages a target is made of, in order.
fn needed(dockerfile: &Dockerfile, target: usize) -> Vec<usize> {
    let mut found = vec![false; dockerfile.stages.len()];
    let mut open = vec![target];
    while let Some(at) = open.pop() {
        let Some(stage) = dockerfile.stages.get(at).filter(|_| !found[at]) else { continue };
        found[at] = true;
        let before = |name: &str| dockerfile.stage(name).filter(|other| *other < at);
        open.extend(before(&stage.base));
        for located in &stage.instructions {
            match &located.item {
                Instruction::Copy(copy) => open.extend(copy.from.as_deref().and_then(before)),
                Instruction::Run(run) => {
                    open.extend(run.mounts.iter().filter_map(|mount| before(mount.from.as_deref()?)));
                }
                _ => {}
            }
        }
    }
    (0..found.len()).filter(|at| found[*at]).collect()
}

struct Outline<'a> {
    request: &'a BuildRequest,
    args: Vec<Value>,
    secrets: Vec<Value>,
    ssh: Vec<Value>,
}

impl Outline<'_> {
    fn arguments<T>(&mut self, located: &Located<T>, arguments: &[Argument]) {
        for argument in arguments {
            let mut listed = json!({"name": argument.name});
            if let Some(described) = description(&located.comments, &argument.name) {
                listed["description"] = json!(described);
            }
            if let Some(value) = self.request.arguments.get(&argument.name).or(argument.default.as_ref()) {
                listed["value"] = json!(value);
            }
            listed["location"] = location(located.lines);
            self.args.push(listed);
        }
    }

    fn mounts(&mut self, mounts: &[MountSpec], lines: Lines) {
        for mount in mounts {
            let usual = if mount.kind == MountKind::Ssh { "default" } else { "" };
            let last = mount.target.rsplit('/').next().unwrap_or_default();
            let name = mount.id.as_deref().unwrap_or(if usual.is_empty() { last } else { usual });
            let mut listed = json!({"name": name});
            if mount.required {
                listed["required"] = json!(true);
            }
            listed["location"] = location(lines);
            match mount.kind {
                MountKind::Secret => self.secrets.push(listed),
                MountKind::Ssh => self.ssh.push(listed),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_with_their_comments() {
        let text = "# base is the base\nFROM busybox AS base\nFROM base\n";
        let told = targets(&Dockerfile::parse(text).unwrap());
        assert_eq!(told["targets"][0]["description"], "is the base");
        assert_eq!(told["targets"][1]["default"], true);
        assert_eq!(told["targets"][1]["location"]["ranges"][0]["start"]["line"], 3);
    }

    #[test]
    fn only_stages_that_are_needed_count() {
        let text =
            "FROM a AS a\nFROM b AS b\nFROM c AS c\nCOPY --from=a / /\nRUN --mount=from=a,target=/m true\n";
        assert_eq!(needed(&Dockerfile::parse(text).unwrap(), 2), [0, 2]);
    }

    #[test]
    fn what_is_wrong_is_a_finding_too() {
        let failure = BuildFailure {
            place: Some(wharf_engine::build::Place {
                file: "Dockerfile".to_owned(),
                text: "FORM x".into(),
                lines: Lines::one(1),
            }),
            ..BuildFailure::new(wharf_engine::ErrorKind::Invalid, "unknown instruction")
        };
        let answer = lint(Err(failure)).unwrap();
        assert_eq!(answer.metadata["result.statuscode"], b"1");
        let value: Value = serde_json::from_slice(&answer.metadata["result.json"]).unwrap();
        assert_eq!(value["buildError"]["message"], "unknown instruction");
    }
}
