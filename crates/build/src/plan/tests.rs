//! Plans compared with what BuildKit 0.29 made of the same Dockerfiles.

use super::*;
use crate::graph::{FileAction, Operation, Source};

fn options() -> PlanOptions {
    let platform =
        Platform { architecture: "amd64".to_owned(), os: "linux".to_owned(), ..Platform::default() };
    PlanOptions {
        target: None,
        arguments: BTreeMap::new(),
        labels: BTreeMap::new(),
        build_platform: platform.clone(),
        platform,
        no_cache: None,
        hosts: Vec::new(),
        hostname: String::new(),
        context: ContextSource::Local { name: "context".to_owned(), ignored: Vec::new() },
        contexts: BTreeMap::new(),
    }
}

/// Plans with every image there: a busybox.
fn planned(text: &str, options: &PlanOptions) -> Result<Plan, PlanError> {
    let dockerfile = Dockerfile::parse(text)?;
    let mut images = BTreeMap::new();
    loop {
        match plan(&dockerfile, options, &images) {
            Err(PlanError::Missing(missing)) => {
                for request in missing {
                    let mut config = ImageConfig {
                        architecture: "amd64".to_owned(),
                        os: "linux".to_owned(),
                        ..ImageConfig::default()
                    };
                    config.config.cmd = Some(vec!["sh".to_owned()]);
                    let reference = request.reference.clone();
                    assert!(
                        images
                            .insert(request, BaseImage { reference, id: "sha256:0".to_owned(), config })
                            .is_none(),
                        "asked twice"
                    );
                }
            }
            done => return done,
        }
    }
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.graph
        .nodes()
        .map(|(_, node)| node.name.as_str())
        .filter(|name| !name.starts_with("[internal]"))
        .collect()
}

fn history(plan: &Plan) -> Vec<&str> {
    plan.config.history.iter().map(|step| step.created_by.as_str()).collect()
}

const WHOLE: &str = r#"ARG V=latest
FROM busybox:$V AS base
ARG X=1 Y
ARG Z
ENV A=1 B="two words" C=$A
ENV LEG value of it
LABEL k=v "q r"="s t" n=$A
MAINTAINER me <me@x>
WORKDIR /w
WORKDIR sub
RUN echo $X > f
RUN ["sh", "-c", "echo hi"]
COPY f /in/
COPY --chown=1:2 --chmod=640 f /in2
ADD f g* /dir/
EXPOSE 80 443/tcp 53/udp 8000-8002
VOLUME /data
VOLUME ["/x y"]
USER nobody:nogroup
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --retries=2 CMD wget -q localhost || exit 1
SHELL ["/bin/ash", "-c"]
RUN <<EOF
echo a
echo b
EOF
COPY <<one <<"two" /here/
v=$A
one
v=$A
two
ENTRYPOINT ["/bin/sh"]
CMD echo $A
ONBUILD RUN echo trigger
"#;

#[test]
fn history_is_buildkits() {
    let mut options = options();
    options.arguments.insert("Y".to_owned(), "why".to_owned());
    let plan = planned(WHOLE, &options).unwrap();
    let expected = [
        "ARG X=1 Y=why",
        "ARG Z",
        "ENV A=1 B=two words C=",
        "ENV LEG=value of it",
        "LABEL k=v q r=s t n=1",
        "MAINTAINER me <me@x>",
        "WORKDIR /w",
        "WORKDIR /w/sub",
        "RUN |3 X=1 Y=why Z= /bin/sh -c echo $X > f # buildkit",
        "RUN |3 X=1 Y=why Z= sh -c echo hi # buildkit",
        "COPY f /in/ # buildkit",
        "COPY --chown=1:2 --chmod=640 f /in2 # buildkit",
        "ADD f g* /dir/ # buildkit",
        "EXPOSE [443/tcp 53/udp 80/tcp 8000/tcp 8001/tcp 8002/tcp]",
        "VOLUME [/data]",
        "VOLUME [/x y]",
        "USER nobody:nogroup",
        "STOPSIGNAL SIGTERM",
        r#"HEALTHCHECK &{["CMD-SHELL" "wget -q localhost || exit 1"] "5s" "0s" "0s" "0s" '\x02'}"#,
        "SHELL [/bin/ash -c]",
        "RUN |3 X=1 Y=why Z= /bin/ash -c echo a\necho b\n # buildkit",
        "COPY <<one <<two /here/ # buildkit",
        r#"ENTRYPOINT ["/bin/sh"]"#,
        r#"CMD ["/bin/ash" "-c" "echo $A"]"#,
    ];
    assert_eq!(history(&plan), expected);
}

#[test]
fn the_config_is_buildkits() {
    let mut options = options();
    options.labels.insert("extra".to_owned(), "1".to_owned());
    let plan = planned(WHOLE, &options).unwrap();
    let expected = serde_json::json!({
        "ArgsEscaped": true, "Cmd": ["/bin/ash", "-c", "echo $A"], "Entrypoint": ["/bin/sh"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1", "B=two words", "C=", "LEG=value of it"],
        "ExposedPorts": {"443/tcp": {}, "53/udp": {}, "80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}},
        "Healthcheck": {"Interval": 5_000_000_000_i64, "Retries": 2, "Test": ["CMD-SHELL", "wget -q localhost || exit 1"]},
        "Labels": {"extra": "1", "k": "v", "n": "1", "q r": "s t"}, "OnBuild": ["RUN echo trigger"], "Shell": ["/bin/ash", "-c"],
        "StopSignal": "SIGTERM", "User": "nobody:nogroup", "Volumes": {"/data": {}, "/x y": {}}, "WorkingDir": "/w/sub"
    });
    assert_eq!(serde_json::to_value(&plan.config.config).unwrap(), expected);
    assert_eq!(plan.config.author, "me <me@x>");
}

#[test]
fn steps_are_named_as_buildkit_names_them() {
    let plan = planned(WHOLE, &options()).unwrap();
    let expected = [
        "[base  1/10] FROM docker.io/library/busybox:latest",
        "[base  2/10] WORKDIR /w",
        "[base  3/10] WORKDIR sub",
        "[base  4/10] RUN echo 1 > f",
        "[base  5/10] RUN [\"sh\", \"-c\", \"echo hi\"]",
        "[base  6/10] COPY f /in/",
        "[base  7/10] COPY --chown=1:2 --chmod=640 f /in2",
        "[base  8/10] ADD f g* /dir/",
        "[base  9/10] RUN <<EOF (echo a...)",
        "[base 10/10] COPY <<one <<two /here/",
    ];
    assert_eq!(names(&plan), expected);
}

#[test]
fn stages_inherit_and_copy() {
    let text = "ARG G=glob\nFROM busybox AS one\nARG G\nARG P=2\nENV Q=env\nARG Q=arg\nRUN echo \"one $Q $P $G\"\nFROM one AS two\nRUN echo \"two $Q $P $G\"\nWORKDIR x\nCOPY --from=one /etc/passwd .\nFROM scratch\nENV Z=1\nCOPY --from=two /etc/passwd /p\nCOPY --link f sub/\nWORKDIR rel\nARG HTTP_PROXY=hey\nCMD a b\nUSER \"\"\n";
    let plan = planned(text, &options()).unwrap();
    let expected = [
        "[one 1/2] FROM docker.io/library/busybox:latest",
        "[one 2/2] RUN echo \"one arg 2 glob\"",
        "[two 1/3] RUN echo \"two env 2 glob\"",
        "[two 2/3] WORKDIR x",
        "[two 3/3] COPY --from=one /etc/passwd .",
        "[stage-2 1/3] COPY --from=two /etc/passwd /p",
        "[stage-2 2/3] COPY --link f sub/",
        "[stage-2 3/3] WORKDIR rel",
    ];
    assert_eq!(names(&plan), expected);
    let expected = [
        "ENV Z=1",
        "COPY /etc/passwd /p # buildkit",
        "COPY f sub/ # buildkit",
        "WORKDIR /rel",
        "ARG HTTP_PROXY=hey",
        "CMD [\"/bin/sh\" \"-c\" \"a b\"]",
        "USER ",
    ];
    assert_eq!(history(&plan), expected);
    let relative: Vec<u32> = plan
        .warnings
        .iter()
        .filter(|warning| warning.rule.name == "WorkdirRelativePath")
        .map(|warning| warning.lines.first)
        .collect();
    assert_eq!(relative, [10, 16]);
}

#[test]
fn unused_stages_are_left_out() {
    let text = "FROM a AS one\nRUN x\nFROM b AS two\nRUN y\nFROM one\nRUN z\n";
    let plan = planned(text, &options()).unwrap();
    assert!(!names(&plan).iter().any(|name| name.contains("two")));
    let mut targeted = options();
    targeted.target = Some("two".to_owned());
    assert_eq!(names(&planned(text, &targeted).unwrap()).len(), 2);
    targeted.target = Some("three".to_owned());
    assert_eq!(
        planned(text, &targeted).unwrap_err().to_string(),
        "target stage \"three\" could not be found"
    );
}

#[test]
fn only_what_is_needed_of_the_context_is_asked_for() {
    let plan = planned("FROM scratch\nCOPY a b/ /x/\nADD c.tar /\n", &options()).unwrap();
    let follow = plan.graph.nodes().find_map(|(_, node)| match &node.operation {
        Operation::Source(Source::Local { follow, .. }) => Some(follow.clone()),
        _ => None,
    });
    assert_eq!(follow.unwrap(), ["a", "b/", "c.tar"]);
}

#[test]
fn triggers_run_on_top() {
    let dockerfile = Dockerfile::parse("FROM base\nRUN b\n").unwrap();
    let Err(PlanError::Missing(missing)) = plan(&dockerfile, &options(), &BTreeMap::new()) else {
        panic!("planned")
    };
    let mut config = ImageConfig::default();
    config.config.on_build = vec!["RUN a".to_owned(), "COPY --from=one /x /y".to_owned()];
    let request = missing.into_iter().next().unwrap();
    let images = BTreeMap::from([(
        request,
        BaseImage { reference: "base".to_owned(), id: "sha256:0".to_owned(), config },
    )]);
    let Err(PlanError::Missing(missing)) = plan(&dockerfile, &options(), &images) else { panic!("planned") };
    assert_eq!(missing.into_iter().next().unwrap().reference, "docker.io/library/one:latest");
}

#[test]
fn mistakes_are_told() {
    let refused = |text: &str| planned(text, &options()).unwrap_err().to_string();
    assert_eq!(refused("FROM $X\n"), "base name ($X) should not be blank");
    assert_eq!(
        refused("FROM a\nENV a=${x:*y}\n"),
        "failed to process \"${x:*y}\": unsupported modifier (:*) in substitution"
    );
    assert!(
        refused("FROM a\nCOPY a b /c\n").ends_with("the destination must be a directory and end with a /")
    );
    assert!(refused("FROM a\nCOPY --chmod=9 a /c\n").starts_with("invalid chmod parameter: '9'"));
    assert!(
        refused("FROM a\nARG x=1\nCOPY --from=$x a /c\n")
            .contains("variable expansion is not supported for --from")
    );
}

#[test]
fn a_script_of_its_own_is_a_file() {
    let text = "FROM a\nRUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\nRUN <<X cat\nhi\nX\n";
    let plan = planned(text, &options()).unwrap();
    let commands: Vec<Vec<String>> = plan
        .graph
        .nodes()
        .filter_map(|(_, node)| match &node.operation {
            Operation::Execute(execute) => Some(execute.arguments.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(commands[0], ["/bin/sh", "-c", "/dev/pipes/EOF"]);
    assert_eq!(commands[1], ["/bin/sh", "-c", "<<X cat\nhi\nX"]);
    let is_script = |action: &FileAction| matches!(action, FileAction::MakeFile { path, mode: 0o755, .. } if path == "/EOF");
    let made = plan.graph.nodes().any(
        |(_, node)| matches!(&node.operation, Operation::Files(actions) if actions.iter().any(is_script)),
    );
    assert!(made);
}

#[test]
fn a_context_for_one_platform_counts_before_one_for_all() {
    let mut options = options();
    let image = |name: &str| ContextSource::Image(name.to_owned());
    options.contexts.insert("base::linux/amd64".to_owned(), image("one"));
    options.contexts.insert("base::linux/arm64".to_owned(), image("two"));
    options.contexts.insert("base".to_owned(), image("three"));
    let plan = |options: &PlanOptions| names_of(&planned("FROM base\n", options).unwrap());
    assert!(plan(&options).contains("one"), "{}", plan(&options));
    options.platform.architecture = "arm64".to_owned();
    assert!(plan(&options).contains("two"), "{}", plan(&options));
    options.platform.architecture = "riscv64".to_owned();
    assert!(plan(&options).contains("three"), "{}", plan(&options));
}

fn names_of(plan: &Plan) -> String {
    format!("{:?}", plan.graph)
}
