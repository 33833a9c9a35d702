//! A volume plugin (Docker's protocol, version 1) that keeps its volumes in directories.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// A plugin at work until it is dropped.
#[derive(Debug)]
pub struct VolumePlugin {
    socket: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
    /// Told when it hangs no more.
    awake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Options by volume.
    volumes: BTreeMap<String, Value>,
    /// Who has mounted what, by volume.
    mounts: BTreeMap<String, BTreeSet<String>>,
    calls: Vec<(String, Value)>,
    /// Calls that are not answered now.
    hanging: BTreeSet<String>,
    /// Calls that are refused, and with which words.
    refusing: BTreeMap<String, String>,
    closed: bool,
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VolumePlugin {
    /// Listens at `socket`; volumes are directories below `folder`.
    ///
    /// # Panics
    /// When it cannot listen there.
    #[track_caller]
    pub fn start(socket: &Path, folder: &Path) -> Self {
        std::fs::create_dir_all(socket.parent().expect("a socket has a directory"))
            .expect("make a directory");
        let listener = UnixListener::bind(socket).expect("listen as a plugin");
        let shared =
            Arc::new(Shared { folder: folder.to_owned(), state: Mutex::default(), awake: Condvar::new() });
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&served).closed {
                    return;
                }
                let served = served.clone();
                std::thread::spawn(move || drop(serve(&served, stream)));
            }
        });
        Self { socket: socket.to_owned(), shared }
    }

    /// The names of the calls so far, without `VolumeDriver.`, and what each was about.
    pub fn calls(&self, name: &str) -> Vec<Value> {
        let state = lock(&self.shared);
        let called = state.calls.iter().filter(|(method, _)| method == name);
        called.map(|(_, ask)| ask.clone()).collect()
    }

    /// Who has a volume mounted.
    pub fn mounts(&self, volume: &str) -> BTreeSet<String> {
        lock(&self.shared).mounts.get(volume).cloned().unwrap_or_default()
    }

    /// The volumes it has.
    pub fn volumes(&self) -> Vec<String> {
        lock(&self.shared).volumes.keys().cloned().collect()
    }

    /// Makes a volume that nobody asked for.
    pub fn add(&self, volume: &str) {
        lock(&self.shared).volumes.insert(volume.to_owned(), Value::Null);
    }

    /// From now on, calls of this name are not answered, or are again.
    pub fn hang(&self, name: &str, hangs: bool) {
        let mut state = lock(&self.shared);
        if hangs {
            state.hanging.insert(name.to_owned());
        } else {
            state.hanging.remove(name);
        }
        self.shared.awake.notify_all();
    }

    /// From now on, calls of this name are refused with `words`; with none they are not.
    pub fn refuse(&self, name: &str, words: Option<&str>) {
        let mut state = lock(&self.shared);
        match words {
            Some(words) => state.refusing.insert(name.to_owned(), words.to_owned()),
            None => state.refusing.remove(name),
        };
    }
}

impl Drop for VolumePlugin {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.closed = true;
        state.hanging.clear();
        drop(state);
        self.shared.awake.notify_all();
        // Wakes the loop up, which then ends.
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(shared: &Shared, stream: UnixStream) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        input.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    let ask: Value = serde_json::from_slice(&body).unwrap_or_default();
    let method = path.trim_start_matches("VolumeDriver.").to_owned();
    let mut state = lock(shared);
    state.calls.push((method.clone(), ask.clone()));
    while state.hanging.contains(&method) {
        state = shared.awake.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    let (status, answer) = match state.refusing.get(&method) {
        Some(words) => (500, json!({ "Err": words })),
        None => (200, answer(&mut state, &shared.folder, &method, &ask)),
    };
    drop(state);
    let text = answer.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    input.get_mut().write_all((head + &text).as_bytes())
}

fn answer(state: &mut State, folder: &Path, method: &str, ask: &Value) -> Value {
    let name = ask["Name"].as_str().unwrap_or_default().to_owned();
    let id = ask["ID"].as_str().unwrap_or_default().to_owned();
    let place = folder.join(&name);
    let volume = |name: &str, mounted: bool| {
        let place = folder.join(name);
        let point = if mounted { place.to_string_lossy().into_owned() } else { String::new() };
        json!({ "Name": name, "Mountpoint": point, "Status": { "from": "plugin" } })
    };
    let mounted = |state: &State, name: &str| state.mounts.get(name).is_some_and(|ids| !ids.is_empty());
    let known = state.volumes.contains_key(&name);
    match method {
        "Plugin.Activate" => json!({ "Implements": ["VolumeDriver"] }),
        "Capabilities" => json!({ "Capabilities": { "Scope": "global" } }),
        "List" => {
            let all: Vec<Value> =
                state.volumes.keys().map(|name| volume(name, mounted(state, name))).collect();
            json!({ "Volumes": all })
        }
        "Create" => {
            state.volumes.insert(name, ask["Opts"].clone());
            json!({ "Err": "" })
        }
        _ if !known => json!({ "Err": format!("no volume {name}") }),
        "Get" => json!({ "Volume": volume(&name, mounted(state, &name)) }),
        "Path" => json!({ "Mountpoint": volume(&name, mounted(state, &name))["Mountpoint"] }),
        "Mount" => {
            let _ = std::fs::create_dir_all(&place);
            state.mounts.entry(name).or_default().insert(id);
            json!({ "Mountpoint": place })
        }
        "Unmount" => {
            let removed = state.mounts.entry(name.clone()).or_default().remove(&id);
            json!({ "Err": if removed { String::new() } else { format!("{name} is not mounted for {id}") } })
        }
        "Remove" => {
            let _ = std::fs::remove_dir_all(&place);
            state.volumes.remove(&name);
            json!({})
        }
        other => json!({ "Err": format!("what is {other}?") }),
    }
}
