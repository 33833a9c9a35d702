//! Clients that never rest, and remember what they were told.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use wharf_testkit::http;

/// Containers each worker keeps.
const SLOTS: usize = 4;

/// Xorshift: the same seed makes the same choices.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.below(2);
        }
        random
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// What a container does when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Writes its lines and ends.
    Brief,
    /// Writes for as long as it is let.
    Steady,
    /// As `Brief`, with `--rm`.
    Vanishing,
    /// Fails and is started again twice.
    Failing,
    /// Ends and is started again until someone stops it.
    Returning,
}

impl Plan {
    /// Lines of one run, and what happens between two of them.
    pub fn lines(self) -> (u64, &'static str) {
        match self {
            Self::Brief | Self::Vanishing => (300, ":"),
            Self::Steady => (1_000_000, "sleep 0.01"),
            Self::Failing => (20, ":"),
            Self::Returning => (15, "sleep 0.02"),
        }
    }

    fn policy(self) -> Value {
        match self {
            Self::Failing => json!({"Name": "on-failure", "MaximumRetryCount": 2}),
            Self::Returning => json!({"Name": "unless-stopped"}),
            _ => json!({}),
        }
    }
}

/// Whether something is so, as far as a client can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    No,
    Yes,
    /// The daemon died before it answered.
    Maybe,
}

/// One container, by what its client was told.
#[derive(Debug)]
pub struct Model {
    pub id: Option<String>,
    pub name: String,
    /// The name it may have instead.
    pub renamed: Option<String>,
    pub exists: Known,
    pub plan: Plan,
    pub code: u64,
    pub volume: bool,
    pub started: Known,
    /// Someone stopped or killed a run of it.
    pub disturbed: bool,
    /// Stopped, and not started since.
    pub stopped: Known,
    /// What was asked and answered, for whoever reads a failure.
    pub history: Vec<String>,
}

/// One client.
pub struct Worker {
    number: u64,
    random: Random,
    made: u64,
    pub models: Vec<Model>,
}

/// What came of a request.
enum Outcome {
    /// The status of the answer, and its document.
    Answered(u16, Value),
    /// Nobody was there to hear it.
    Unheard,
    /// No answer came.
    Unknown,
}

impl Worker {
    pub fn new(number: u64, seed: u64) -> Self {
        Self { number, random: Random::new(seed ^ (number + 1) << 32), made: 0, models: Vec::new() }
    }

    /// Goes on until `done`.
    pub fn run(&mut self, socket: &Path, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            if self.models.len() < SLOTS {
                let model = self.draft();
                self.models.push(model);
                let model = self.models.last_mut().expect("one was pushed");
                if create(socket, model) && model.exists == Known::Yes {
                    start(socket, model);
                }
                continue;
            }
            let (at, what) = (self.random.below(SLOTS as u64) as usize, self.random.below(12));
            self.made += 1;
            let fresh = format!("crash-{}-{}", self.number, self.made);
            let model = &mut self.models[at];
            match what {
                0..3 => start(socket, model),
                3 => end(socket, model, "stop?t=0"),
                4 => end(socket, model, "stop?t=1"),
                5 => end(socket, model, "kill"),
                6 => rename(socket, model, fresh),
                7 => exec(socket, model),
                8..11 => {
                    remove(socket, model);
                    self.models.retain(|model| model.exists != Known::No);
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn draft(&mut self) -> Model {
        self.made += 1;
        let plans = [Plan::Brief, Plan::Steady, Plan::Vanishing, Plan::Failing, Plan::Returning];
        Model {
            id: None,
            name: format!("crash-{}-{}", self.number, self.made),
            renamed: None,
            exists: Known::No,
            plan: plans[self.random.below(plans.len() as u64) as usize],
            code: 1 + self.random.below(100),
            volume: self.random.below(3) == 0,
            started: Known::No,
            disturbed: false,
            stopped: Known::No,
            history: Vec::new(),
        }
    }
}

impl Model {
    fn ask(&mut self, socket: &Path, method: &str, target: &str, body: Option<&Value>) -> Outcome {
        let text = body.map(Value::to_string);
        let outcome = match http::request(socket, method, target, text.as_deref().map(str::as_bytes)) {
            Ok(reply) => {
                Outcome::Answered(reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
            }
            Err(error) => match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                    std::thread::sleep(Duration::from_millis(5));
                    return Outcome::Unheard;
                }
                _ => Outcome::Unknown,
            },
        };
        let said = match &outcome {
            Outcome::Answered(status, document) => {
                format!("{status} {}", document["message"].as_str().unwrap_or_default())
            }
            _ => "no answer".to_owned(),
        };
        self.history.push(format!("{method} {target}: {said}"));
        outcome
    }

    /// How the API is to find it; the id is certain where a name is not.
    pub fn key(&self) -> String {
        self.id.clone().unwrap_or_else(|| self.name.clone())
    }
}

/// False: the daemon is not there.
fn create(socket: &Path, model: &mut Model) -> bool {
    let (lines, pause) = model.plan.lines();
    let script = format!(
        "trap 'exit {code}' TERM; i=0; while [ $i -lt {lines} ]; do echo \"$i the quick brown fox\"; i=$((i+1)); \
         {pause}; done; exit {code}",
        code = model.code
    );
    let volumes = if model.volume { json!({"/kept": {}}) } else { json!({}) };
    let body = json!({
        "Image": "busybox", "Cmd": ["sh", "-c", script], "Volumes": volumes,
        "HostConfig": {
            "NetworkMode": "none", "AutoRemove": model.plan == Plan::Vanishing, "RestartPolicy": model.plan.policy(),
        },
    });
    match model.ask(socket, "POST", &format!("/containers/create?name={}", model.name), Some(&body)) {
        Outcome::Answered(201, document) => {
            model.id = document["Id"].as_str().map(str::to_owned);
            model.exists = Known::Yes;
        }
        Outcome::Answered(status, document) => panic!("create: {status} {document}"),
        Outcome::Unheard => return false,
        Outcome::Unknown => model.exists = Known::Maybe,
    }
    true
}

fn start(socket: &Path, model: &mut Model) {
    match model.ask(socket, "POST", &format!("/containers/{}/start", model.key()), None) {
        Outcome::Answered(204, _) => (model.started, model.stopped) = (Known::Yes, Known::No),
        Outcome::Unknown => {
            model.started = if model.started == Known::Yes { Known::Yes } else { Known::Maybe };
            model.stopped = if model.stopped == Known::No { Known::No } else { Known::Maybe };
        }
        Outcome::Answered(304, _) | Outcome::Unheard => {}
        Outcome::Answered(404 | 409, _) if model.plan == Plan::Vanishing || model.exists == Known::Maybe => {}
        Outcome::Answered(status, document) => panic!("start: {status} {document} {model:#?}"),
    }
}

fn end(socket: &Path, model: &mut Model, how: &str) {
    match model.ask(socket, "POST", &format!("/containers/{}/{how}", model.key()), None) {
        Outcome::Answered(204, _) => (model.stopped, model.disturbed) = (Known::Yes, true),
        Outcome::Unknown => (model.stopped, model.disturbed) = (Known::Maybe, true),
        Outcome::Answered(304 | 404 | 409, _) | Outcome::Unheard => {}
        Outcome::Answered(status, document) => panic!("{how}: {status} {document} {model:#?}"),
    }
}

fn rename(socket: &Path, model: &mut Model, name: String) {
    if model.renamed.is_some() || model.id.is_none() {
        return;
    }
    match model.ask(socket, "POST", &format!("/containers/{}/rename?name={name}", model.key()), None) {
        Outcome::Answered(204, _) => model.name = name,
        Outcome::Unknown => model.renamed = Some(name),
        _ => {}
    }
}

fn exec(socket: &Path, model: &mut Model) {
    let body = json!({"Cmd": ["sh", "-c", "sleep 0.05"]});
    let made = model.ask(socket, "POST", &format!("/containers/{}/exec", model.key()), Some(&body));
    if let Outcome::Answered(201, document) = made
        && let Some(id) = document["Id"].as_str()
    {
        model.ask(socket, "POST", &format!("/exec/{id}/start"), Some(&json!({"Detach": true})));
    }
}

fn remove(socket: &Path, model: &mut Model) {
    match model.ask(socket, "DELETE", &format!("/containers/{}?force=1&v=1", model.key()), None) {
        Outcome::Answered(204 | 404, _) if model.exists == Known::Yes => model.exists = Known::No,
        Outcome::Answered(204, _) => model.exists = Known::No,
        Outcome::Unknown => {
            (model.exists, model.disturbed, model.stopped) = (Known::Maybe, true, Known::Maybe)
        }
        Outcome::Answered(404 | 409, _) | Outcome::Unheard => {}
        Outcome::Answered(status, document) => panic!("remove: {status} {document}"),
    }
}
