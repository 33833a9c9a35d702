//! The nursery: a process that has a program's start behind it and forks supervisors, see [`wharf_shim::nursery`].
//!
//! It keeps what every set-up would find out anew: where the cgroups are, and the program of the system call filter
//! that most containers have.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use wharf_oci::runtime::Spec;
use wharf_shim::nursery::{Birth, Born};
use wharf_shim::protocol::MAX_FRAME;
use wharf_sys::process::{self, CloneOptions, CommandLine, Forked};
use wharf_sys::socket;

use crate::error::Error;
use crate::supervise::Supervisor;

/// The name of supervisors in lists of processes, where their arguments are not shown.
const NAME: &std::ffi::CStr = c"wharf-superv";

/// Forks supervisors until the daemon is gone.
pub(crate) fn run(control: OwnedFd) -> Result<(), Error> {
    let arguments = CommandLine::own();
    let _names_are_for_people = rustix::thread::set_name(NAME);
    process::listen_to_all_signals();
    wharf_runtime::prepare();
    // Finds the kernel's clock once for all.
    let _now = wharf_sys::time::Instant::now();
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        let (length, mut descriptors) =
            socket::wait_message(&control, &mut buffer).map_err(Error::doing("receive from daemon"))?;
        if length == 0 {
            return Ok(());
        }
        let options = CloneOptions { sibling: true, ..CloneOptions::default() };
        let (born, pidfd) = match process::clone(&options) {
            Ok(Forked::Child) => {
                drop(control);
                let birth: Birth = serde_json::from_slice(&buffer[..length])
                    .map_err(|error| Error::doing("read order")(error.into()))?;
                drop(buffer);
                if descriptors.is_empty() {
                    return Err(Error::Usage);
                }
                let daemon = descriptors.remove(0);
                return serve(birth, daemon, descriptors, arguments);
            }
            Ok(Forked::Parent(child)) => (Born::Pid(child.pid), Some(child.pidfd)),
            Err(error) => (Born::Failed(error.errno().raw_os_error()), None),
        };
        // Before anything else: the child's connection is closed once nobody but the child has it.
        drop(descriptors);
        let answer = serde_json::to_vec(&born).map_err(|error| Error::doing("answer")(error.into()))?;
        let beside: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
        socket::send_message(&control, &answer, &beside).map_err(Error::doing("answer daemon"))?;
        remember_filter(&buffer[..length]);
    }
}

/// In the child: a supervisor as if it had been started by itself.
fn serve(
    birth: Birth,
    daemon: OwnedFd,
    descriptors: Vec<OwnedFd>,
    arguments: Option<CommandLine>,
) -> Result<(), Error> {
    let _leads_one_already = rustix::process::setsid();
    if let Some(arguments) = arguments {
        arguments.show(["wharf".as_ref(), "supervisor".as_ref(), birth.config.bundle.as_os_str()]);
    }
    let given = birth.given.into_iter().zip(descriptors).collect();
    Supervisor::new(birth.config, daemon, given, false)?.run()
}

/// Compiles the filter of the first container that has one, for all later ones with the same.
fn remember_filter(order: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Part {
        config: Bundle,
    }
    #[derive(serde::Deserialize)]
    struct Bundle {
        bundle: PathBuf,
    }
    if wharf_runtime::seccomp::remembers() {
        return;
    }
    let spec = serde_json::from_slice::<Part>(order)
        .ok()
        .and_then(|part| std::fs::read(part.config.bundle.join("config.json")).ok())
        .and_then(|text| serde_json::from_slice::<Spec>(&text).ok());
    if let Some(filter) = spec.and_then(|spec| spec.linux).and_then(|linux| linux.seccomp) {
        wharf_runtime::seccomp::remember(filter);
    }
    wharf_sys::memory::give_back();
}
