//! A frontend: what an image runs that a Dockerfile names in its first line. This test program is that image's program, and
//! speaks to the builder over descriptors 3 and 4, as the harness writes to its own standard output.
//!
//! Its language has a line for each step; every step is one operation on what the ones before made.
#![allow(clippy::print_stderr, clippy::exit, reason = "a program of its own, run in a container")]

use std::collections::HashMap;

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::exec_message::Input;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{self, result};
use bollard_buildkit_proto::pb;
use prost::Message;
use tokio::net::unix::pipe;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use wharf_api::rpc::Caller;
use wharf_oci::Digest;

type Bridge = LlbBridgeClient<Caller>;
type Done<T> = Result<T, tonic::Status>;

/// A definition on its way.
#[derive(Default)]
struct Definition {
    def: Vec<Vec<u8>>,
}

impl Definition {
    fn add(&mut self, op: pb::op::Op, inputs: &[&str]) -> String {
        let inputs = inputs.iter().map(|digest| pb::Input { digest: (*digest).to_owned(), index: 0 });
        let platform = pb::Platform {
            os: "linux".to_owned(),
            architecture: wharf_oci::Platform::host().architecture,
            ..pb::Platform::default()
        };
        let (inputs, platform) = (inputs.collect(), Some(platform));
        let op = pb::Op { op: Some(op), inputs, platform, ..pb::Op::default() };
        self.def.push(op.encode_to_vec());
        Digest::of(self.def.last().unwrap()).to_string()
    }

    fn source(&mut self, identifier: &str) -> String {
        let source = pb::SourceOp { identifier: identifier.to_owned(), ..pb::SourceOp::default() };
        self.add(pb::op::Op::Source(source), &[])
    }

    fn end(&self, digest: &str) -> pb::Definition {
        let mut def = self.def.clone();
        let inputs = vec![pb::Input { digest: digest.to_owned(), index: 0 }];
        def.push(pb::Op { inputs, ..pb::Op::default() }.encode_to_vec());
        pb::Definition { def, ..pb::Definition::default() }
    }
}

/// What the environment says was asked.
fn options() -> HashMap<String, String> {
    let given = std::env::vars().filter(|(name, _)| name.starts_with("BUILDKIT_FRONTEND_OPT_"));
    given
        .filter_map(|(_, value)| {
            Some(value.split_once('=')?).map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Runs the frontend.
pub async fn run() {
    let open = |number, write: bool| {
        let path = format!("/proc/self/fd/{number}");
        std::fs::OpenOptions::new().read(!write).write(write).open(path).unwrap()
    };
    let (from, to) = (pipe::Receiver::from_file(open(3, false)), pipe::Sender::from_file(open(4, true)));
    let (caller, connection) = Caller::connect(tokio::io::join(from.unwrap(), to.unwrap())).await.unwrap();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("connection: {error:?}");
        }
    });
    let mut bridge = LlbBridgeClient::new(caller);
    eprintln!("frontend says hello to {}", std::env::var("BUILDKIT_SESSION_ID").unwrap());
    let given = match build(&mut bridge, &options()).await {
        Ok(Some(result)) => frontend::ReturnRequest { result: Some(result), error: None },
        Ok(None) => return,
        Err(status) => {
            let whole = rpc::Status::decode(status.details()).unwrap_or_default();
            let (code, message) = (i32::from(status.code()), status.message().to_owned());
            let error = rpc::Status { code, message, details: whole.details };
            frontend::ReturnRequest { result: None, error: Some(error) }
        }
    };
    bridge.r#return(given).await.unwrap();
}

async fn solve(bridge: &mut Bridge, definition: pb::Definition) -> Done<String> {
    let request = frontend::SolveRequest {
        definition: Some(definition),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..frontend::SolveRequest::default()
    };
    let answer = bridge.solve(request).await?.into_inner();
    match answer.result.and_then(|result| result.result) {
        Some(result::Result::Ref(one)) => Ok(one.id),
        other => Err(tonic::Status::internal(format!("no single result: {other:?}"))),
    }
}

/// What the build is made of.
struct State {
    definition: Definition,
    /// What the steps so far made.
    tree: String,
    config: Vec<u8>,
    metadata: HashMap<String, Vec<u8>>,
}

async fn build(bridge: &mut Bridge, options: &HashMap<String, String>) -> Done<Option<frontend::Result>> {
    let pong = bridge.ping(frontend::PingRequest {}).await?.into_inner();
    assert!(pong.frontend_api_caps.iter().any(|cap| cap.id == "gateway.exec" && cap.enabled));
    let mut definition = Definition::default();
    let local = definition.source("local://dockerfile");
    let local = solve(bridge, definition.end(&local)).await?;
    let file_path = options.get("filename").cloned().unwrap_or_else(|| "Dockerfile".to_owned());
    let read = frontend::ReadFileRequest { r#ref: local, file_path, ..Default::default() };
    let text = bridge.read_file(read).await?.into_inner().data;
    let text = String::from_utf8(text).unwrap();
    let mut state = State {
        definition: Definition::default(),
        tree: String::new(),
        config: b"{}".to_vec(),
        metadata: HashMap::new(),
    };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "fail" => return Err(tonic::Status::new(Code::Unknown, rest)),
            "exit" => std::process::exit(rest.parse().unwrap()),
            "silent" => return Ok(None),
            "rest" => tokio::time::sleep(std::time::Duration::from_secs(600)).await,
            _ => step(bridge, options, &mut state, verb, rest).await?,
        }
    }
    let id = solve(bridge, state.definition.end(&state.tree)).await?;
    let one = frontend::Ref { id, def: None };
    state.metadata.insert("containerimage.config".to_owned(), state.config);
    let result = Some(result::Result::Ref(one));
    Ok(Some(frontend::Result { result, metadata: state.metadata, attestations: HashMap::new() }))
}

async fn step(
    bridge: &mut Bridge,
    options: &HashMap<String, String>,
    state: &mut State,
    verb: &str,
    rest: &str,
) -> Done<()> {
    let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
    let tree = state.tree.clone();
    match verb {
        "from" => {
            let request =
                frontend::ResolveImageConfigRequest { r#ref: rest.to_owned(), ..Default::default() };
            let found = bridge.resolve_image_config(request).await?.into_inner();
            state.config = found.config;
            state.tree = state.definition.source(&format!("docker-image://{}", found.r#ref));
        }
        "option" => {
            let value = options.get(first).cloned().unwrap_or_default();
            state.tree = state.definition.add(written(more, value.as_bytes()), &[&tree]);
        }
        "write" => state.tree = state.definition.add(written(first, more.as_bytes()), &[&tree]),
        "link" => {
            let link = pb::FileActionSymlink {
                oldpath: first.to_owned(),
                newpath: more.to_owned(),
                ..Default::default()
            };
            let action = pb::file_action::Action::Symlink(link);
            state.tree = state.definition.add(files(action, -1), &[&tree]);
        }
        "copy" => {
            let local = state.definition.source("local://context");
            let copy = pb::FileActionCopy {
                src: "/".to_owned(),
                dest: first.to_owned(),
                dir_copy_contents: true,
                create_dest_path: true,
                mode: -1,
                include_patterns: more.split(' ').map(str::to_owned).collect(),
                exclude_patterns: vec!["**/left".to_owned()],
                ..Default::default()
            };
            let action = pb::file_action::Action::Copy(copy);
            state.tree = state.definition.add(files(action, 1), &[&tree, &local]);
        }
        "run" | "try" => {
            let codes = if verb == "try" { vec![0, 7] } else { Vec::new() };
            state.tree = state.definition.add(process(rest, codes), &[&tree]);
        }
        "nested" => {
            // A definition in a file, which a definition runs.
            let mut inner = Definition::default();
            let file = inner.add(alone("/nested", rest.as_bytes()), &[]);
            let inner = inner.end(&file).encode_to_vec();
            let file = state.definition.add(alone("/buildkit.llb.definition", &inner), &[]);
            let input = pb::BuildInput { input: 0 };
            let op = pb::BuildOp {
                builder: -1,
                inputs: [("buildkit.llb.definition".to_owned(), input)].into(),
                ..Default::default()
            };
            let made = state.definition.add(pb::op::Op::Build(op), &[&file]);
            let merged = [0, 1].map(|input| pb::MergeInput { input }).to_vec();
            state.tree =
                state.definition.add(pb::op::Op::Merge(pb::MergeOp { inputs: merged }), &[&tree, &made]);
        }
        "inside" => {
            let said = inside(bridge, state, rest).await?;
            state.tree = state.definition.add(written("/inside", &said), &[&tree]);
        }
        "warn" => {
            let request = frontend::WarnRequest {
                digest: state.tree.clone(),
                level: 1,
                short: rest.as_bytes().to_vec(),
                ..Default::default()
            };
            bridge.warn(request).await?;
        }
        other => return Err(tonic::Status::unknown(format!("unknown step {other}"))),
    }
    Ok(())
}

fn files(action: pb::file_action::Action, second: i64) -> pb::op::Op {
    let action = pb::FileAction { input: 0, secondary_input: second, output: 0, action: Some(action) };
    pb::op::Op::File(pb::FileOp { actions: vec![action] })
}

fn make(path: &str, data: &[u8]) -> pb::file_action::Action {
    let (path, data) = (path.to_owned(), data.to_vec());
    pb::file_action::Action::Mkfile(pb::FileActionMkFile { path, data, mode: 0o644, ..Default::default() })
}

/// A file more.
fn written(path: &str, data: &[u8]) -> pb::op::Op {
    files(make(path, data), -1)
}

/// A file and nothing else.
fn alone(path: &str, data: &[u8]) -> pb::op::Op {
    let action = Some(make(path, data));
    let action = pb::FileAction { input: -1, secondary_input: -1, output: 0, action };
    pb::op::Op::File(pb::FileOp { actions: vec![action] })
}

fn process(command: &str, valid_exit_codes: Vec<i32>) -> pb::op::Op {
    let args = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
    let meta = pb::Meta { args, cwd: "/".to_owned(), valid_exit_codes, ..Default::default() };
    let root = pb::Mount { input: 0, dest: "/".to_owned(), output: 0, ..Default::default() };
    pb::op::Op::Exec(pb::ExecOp { meta: Some(meta), mounts: vec![root], ..Default::default() })
}

/// What two processes of one container say: a shell that is told what to do on its standard input, and one that joins it.
async fn inside(bridge: &mut Bridge, state: &State, command: &str) -> Done<Vec<u8>> {
    let root = solve(bridge, state.definition.end(&state.tree)).await?;
    let mount = pb::Mount { dest: "/".to_owned(), result_id: root, input: -1, ..Default::default() };
    let container_id = "one".to_owned();
    let mounts = vec![mount];
    let request = frontend::NewContainerRequest { container_id, mounts, ..Default::default() };
    bridge.new_container(request).await?;
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    let init = |args: &[&str]| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env = vec!["PATH=/bin".to_owned()];
        let meta = pb::Meta { args, env, cwd: "/".to_owned(), ..Default::default() };
        Input::Init(frontend::InitMessage {
            container_id: "one".to_owned(),
            meta: Some(meta),
            fds: vec![0, 1, 2],
            ..Default::default()
        })
    };
    let say = |process: &str, input: Input| {
        let (sender, process_id) = (sender.clone(), process.to_owned());
        async move {
            sender.send(frontend::ExecMessage { process_id, input: Some(input) }).await.unwrap();
        }
    };
    say("first", init(&["/bin/sh"])).await;
    let mut told = bridge.exec_process(ReceiverStream::new(receiver)).await?.into_inner();
    let mut said: HashMap<String, Vec<u8>> = HashMap::new();
    let (mut codes, mut left) = (HashMap::new(), String::new());
    while let Some(message) = told.message().await? {
        let process = message.process_id;
        match message.input.unwrap() {
            Input::Started(_) if process == "first" => say("second", init(&["/bin/sh", "-c", command])).await,
            Input::File(file) if file.fd == 1 => said.entry(process).or_default().extend(file.data),
            Input::Exit(exit) => {
                codes.insert(process, exit.code);
            }
            Input::Done(_) if process == "second" => {
                left = left_by_second(bridge).await?;
                let data = b"cat /left-by-second; exit 3\n".to_vec();
                say("first", Input::File(frontend::FdMessage { fd: 0, eof: true, data })).await;
            }
            Input::Done(_) => break,
            _ => {}
        }
    }
    bridge.release_container(frontend::ReleaseContainerRequest { container_id: "one".to_owned() }).await?;
    let text = |process: &str| String::from_utf8_lossy(&said[process]).into_owned();
    let all = format!("{}{}{}{left}{}", text("second"), codes["second"], text("first"), codes["first"]);
    Ok(all.into_bytes())
}

/// What is seen of a file of the container from outside while something runs in it: its content, size and name.
async fn left_by_second(bridge: &mut Bridge) -> Done<String> {
    let (r#ref, path, mount_index) = ("one".to_owned(), "/left-by-second".to_owned(), 0);
    let file_path = path.clone();
    let read = frontend::ReadFileRequest { r#ref: r#ref.clone(), file_path, range: None, mount_index };
    let data = bridge.read_file_container(read).await?.into_inner().data;
    let stat = frontend::StatFileRequest { r#ref: r#ref.clone(), path, mount_index };
    let size = bridge.stat_file_container(stat).await?.into_inner().stat.unwrap_or_default().size;
    let list = frontend::ReadDirRequest {
        r#ref,
        dir_path: "/".to_owned(),
        include_pattern: "left*".to_owned(),
        mount_index,
    };
    let listed = bridge.read_dir_container(list).await?.into_inner().entries;
    let names: Vec<String> = listed.into_iter().map(|entry| entry.path).collect();
    Ok(format!("{}{size}{}", String::from_utf8_lossy(&data), names.join(",")))
}
