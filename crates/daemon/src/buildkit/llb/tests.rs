use prost::Message;
use wharf_build::graph::{FileAction, NodeId, Source};

use super::*;

/// Puts a definition together.
#[derive(Default)]
struct Definition {
    def: Vec<Vec<u8>>,
}

impl Definition {
    fn add(&mut self, op: pb::op::Op, inputs: &[(&str, i64)]) -> String {
        let inputs =
            inputs.iter().map(|(digest, index)| pb::Input { digest: (*digest).to_owned(), index: *index });
        let op = pb::Op { op: Some(op), inputs: inputs.collect(), ..pb::Op::default() };
        self.def.push(op.encode_to_vec());
        Digest::of(self.def.last().unwrap()).to_string()
    }

    fn end(mut self, digest: &str) -> pb::Definition {
        let inputs = vec![pb::Input { digest: digest.to_owned(), index: 0 }];
        self.def.push(pb::Op { inputs, ..pb::Op::default() }.encode_to_vec());
        pb::Definition { def: self.def, ..pb::Definition::default() }
    }
}

fn source(identifier: &str, attrs: &[(&str, &str)]) -> pb::op::Op {
    let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    pb::op::Op::Source(pb::SourceOp { identifier: identifier.to_owned(), attrs })
}

fn mount(input: i64, dest: &str, output: i64) -> pb::Mount {
    pb::Mount { input, dest: dest.to_owned(), output, ..pb::Mount::default() }
}

fn exec(args: &[&str], mounts: Vec<pb::Mount>) -> pb::ExecOp {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    pb::ExecOp { meta: Some(pb::Meta { args, ..pb::Meta::default() }), mounts, ..pb::ExecOp::default() }
}

fn mkfile(path: &str, input: i64, output: i64) -> pb::FileAction {
    let file = pb::FileActionMkFile { path: path.to_owned(), mode: 0o644, ..pb::FileActionMkFile::default() };
    pb::FileAction { input, output, secondary_input: -1, action: Some(pb::file_action::Action::Mkfile(file)) }
}

fn read(definition: &pb::Definition) -> Result<(Graph, Option<Edge>)> {
    let mut images = Images::new();
    let found = Found { reference: "docker.io/library/busybox:latest".to_owned(), id: "sha256:1".to_owned() };
    images.insert(("docker.io/library/busybox:latest".to_owned(), Platform::host().to_string()), found);
    let known = Known { images, ..Known::default() };
    Parsed::read(definition)?.graph(&known, Allowed::default())
}

fn operation(graph: &Graph, at: usize) -> &Operation {
    &graph.node(NodeId(at)).operation
}

#[test]
fn a_process_on_an_image_has_its_root_first() {
    let mut definition = Definition::default();
    let image = definition.add(source("docker-image://docker.io/library/busybox:latest", &[]), &[]);
    let local = definition.add(source("local://context", &[("local.followpaths", r#"["a"]"#)]), &[]);
    let mut context = mount(1, "/src", -1);
    context.readonly = true;
    let run = exec(&["true"], vec![context, mount(0, "/", 0)]);
    let run = definition.add(pb::op::Op::Exec(run), &[(&image, 0), (&local, 0)]);
    let (graph, result) = read(&definition.end(&run)).unwrap();
    let edge = result.unwrap();
    let Operation::Execute(execute) = operation(&graph, edge.node.0) else { panic!("{graph:?}") };
    assert_eq!(execute.mounts[0].destination, "/");
    assert_eq!((execute.mounts[0].output, execute.mounts[1].output), (Some(0), None));
    let inputs = &graph.node(edge.node).inputs;
    assert!(matches!(operation(&graph, inputs[0].node.0), Operation::Source(Source::Image { .. })));
    let Operation::Source(Source::Local { follow, .. }) = operation(&graph, inputs[1].node.0) else {
        panic!()
    };
    assert_eq!(follow, &["a"]);
}

#[test]
fn a_chain_of_file_actions_is_one_operation() {
    let mut definition = Definition::default();
    let actions = vec![mkfile("/a", -1, -1), mkfile("/b", 0, -1), mkfile("/c", 1, 0)];
    let files = definition.add(pb::op::Op::File(pb::FileOp { actions }), &[]);
    let (graph, result) = read(&definition.end(&files)).unwrap();
    let Operation::Files(actions) = operation(&graph, result.unwrap().node.0) else { panic!() };
    assert_eq!(actions.len(), 3);
    assert!(matches!(&actions[1], FileAction::MakeFile { path, .. } if path == "/b"));

    let mut definition = Definition::default();
    let actions = vec![mkfile("/a", -1, -1), mkfile("/b", 0, 0), mkfile("/c", 0, 1)];
    let files = definition.add(pb::op::Op::File(pb::FileOp { actions }), &[]);
    let (graph, result) = read(&definition.end(&files)).unwrap();
    let Operation::Files(actions) = operation(&graph, result.unwrap().node.0) else { panic!() };
    assert_eq!(actions.len(), 1, "two branch off the first");
}

#[test]
fn an_empty_definition_is_an_empty_tree() {
    assert!(read(&pb::Definition::default()).unwrap().1.is_none());
}

#[test]
fn definitions_within_are_found_and_what_makes_no_sense_is_refused() {
    let within = |builder: i64, input: i64| {
        let mut definition = Definition::default();
        let file = definition.add(pb::op::Op::File(pb::FileOp { actions: vec![mkfile("/a", -1, 0)] }), &[]);
        let inputs = [(WITHIN.to_owned(), pb::BuildInput { input })].into();
        let build = pb::BuildOp { builder, inputs, ..pb::BuildOp::default() };
        let digest = definition.add(pb::op::Op::Build(build), &[(&file, 0)]);
        let found = Parsed::read(&definition.end(&digest)).unwrap().within();
        found.map(|found| (found.len(), found[0].digest == digest, found[0].file.clone()))
    };
    assert_eq!(within(-1, 0).unwrap(), (1, true, WITHIN.to_owned()));
    assert!(within(0, 0).is_err() && within(-1, 1).is_err() && within(-1, -1).is_err());
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let refused = |op: pb::op::Op, what: &str| {
        let mut definition = Definition::default();
        let digest = definition.add(op, &[]);
        let error = read(&definition.end(&digest)).unwrap_err();
        assert!(error.contains(what), "{error}");
    };
    refused(source("blob://x", &[]), "blob");
    refused(pb::op::Op::Build(pb::BuildOp::default()), "not looked up");
    refused(pb::op::Op::Exec(exec(&["true"], vec![])), "root");
    refused(pb::op::Op::Exec(exec(&[], vec![mount(-1, "/", 0)])), "arguments");
    let mut host = exec(&["true"], vec![mount(-1, "/", 0)]);
    host.set_network(pb::NetMode::Host);
    refused(pb::op::Op::Exec(host), "network.host is not allowed");
    let mut insecure = exec(&["true"], vec![mount(-1, "/", 0)]);
    insecure.set_security(pb::SecurityMode::Insecure);
    refused(pb::op::Op::Exec(insecure), "security.insecure is not allowed");
    refused(source("https://example.com/a", &[("http.filename", "../a")]), "invalid file name");
}

#[test]
fn hostile_definitions_end_in_errors() {
    let missing = pb::Op {
        inputs: vec![pb::Input { digest: "sha256:none".to_owned(), index: 0 }],
        ..pb::Op::default()
    };
    let alone = pb::Definition { def: vec![missing.encode_to_vec()], ..pb::Definition::default() };
    assert!(read(&alone).is_err());
    let noise =
        pb::Definition { def: vec![vec![0xff; 9], missing.encode_to_vec()], ..pb::Definition::default() };
    assert!(read(&noise).is_err());
    for index in [-2, 1, i64::MAX, i64::MIN] {
        let mut definition = Definition::default();
        let image = definition.add(source("docker-image://busybox", &[]), &[]);
        let run = exec(&["true"], vec![mount(index, "/", 0)]);
        let run = definition.add(pb::op::Op::Exec(run), &[(&image, 0)]);
        assert!(read(&definition.end(&run)).is_err(), "{index}");
    }
    let mut definition = Definition::default();
    let image = definition.add(source("docker-image://busybox", &[]), &[]);
    let run = exec(&["true"], vec![mount(0, "/", 7)]);
    let run = definition.add(pb::op::Op::Exec(run), &[(&image, 0)]);
    assert!(read(&definition.end(&run)).is_err());
    let mut definition = Definition::default();
    let actions = vec![mkfile("/a", 5, 0)];
    let files = definition.add(pb::op::Op::File(pb::FileOp { actions }), &[]);
    assert!(read(&definition.end(&files)).is_err());
}
