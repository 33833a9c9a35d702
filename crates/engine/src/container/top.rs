//! `top`: the processes of a container, as the host's `ps` prints them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use wharf_api::TopResponse;
use wharf_sys::cgroup::Cgroup;
use wharf_sys::pidfd::PidFd;
use wharf_sys::pipe::{self, Pipe};
use wharf_sys::process;

use super::{Containers, Request};
use crate::error::{Error, Result};
use crate::pools::Class;

/// The most that is read of what `ps` prints, in bytes.
const MAX_OUTPUT: u64 = 64 << 20;

impl Containers {
    /// The processes of a container. `ps_args`: what `ps` is told; nothing means `-ef`.
    pub async fn top(&self, asked: &str, ps_args: &str) -> Result<TopResponse> {
        let ps_args = if ps_args.is_empty() { "-ef" } else { ps_args };
        check(ps_args)?;
        let container = self.find(asked)?;
        let view = container.check(Request::Top, asked)?;
        let cgroup = self.config.cgroup(container.id(), &view.record.host_config.cgroup_parent);
        let args: Vec<String> = ps_args.split_ascii_whitespace().map(str::to_owned).collect();
        let listing = move || {
            let pids = Cgroup::open(&cgroup).and_then(|group| group.pids());
            let pids = pids.map_err(|error| Error::internal(error.to_string()))?;
            parse(&list(&args, &pids)?, &pids)
        };
        let top = self.pools.run(Class::Host, listing).await?;
        self.emit(&view.record, "top", &[]);
        Ok(top)
    }
}

/// Refuses a column that is renamed to the one processes are told apart by (`-o comm=PID`).
fn check(ps_args: &str) -> Result<()> {
    let words = ps_args.split_ascii_whitespace().skip(1);
    for (column, title) in words.filter_map(|word| word.split_once('=')) {
        if title.starts_with("PID") {
            return Err(Error::invalid(format!("specifying \"{column}={title}\" is not allowed")));
        }
    }
    Ok(())
}

fn list(args: &[String], pids: &[i32]) -> Result<String> {
    let only = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let narrow: Vec<String> = args.iter().cloned().chain([format!("-q{only}")]).collect();
    // Some options, such as the tree of `f`, do not go with -q.
    let printed = match ps(&narrow)? {
        Ok(printed) => return Ok(printed),
        Err(_) => ps(args)?,
    };
    printed
        .map_err(|complaint| Error::internal(format!("ps: {}", complaint.lines().next().unwrap_or_default())))
}

/// Runs `ps`: what it printed, or, where it failed, what it complained of.
fn ps(args: &[String]) -> Result<Result<String, String>> {
    let program = find("ps").ok_or_else(|| {
        Error::internal("Error running ps: exec: \"ps\": executable file not found in $PATH")
    })?;
    run(program.as_os_str(), args).map_err(|error| Error::io("run ps", &error))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

fn run(program: &OsStr, args: &[String]) -> io::Result<Result<String, String>> {
    let (null, output, complaints) = (pipe::null()?, Pipe::new()?, Pipe::new()?);
    let words = [OsStr::new("ps")].into_iter().chain(args.iter().map(OsStr::new));
    let descriptors = [null.as_fd(), output.write.as_fd(), complaints.write.as_fd()];
    let child = process::spawn(program, words, &descriptors).map_err(io::Error::other)?;
    drop((output.write, complaints.write));
    let complaining = std::thread::spawn(move || read(complaints.read));
    let printed = read(output.read)?;
    let complained = complaining.join().map_err(|_| io::Error::other("reader ended"))??;
    let ended = PidFd::from(child.pidfd).wait()?;
    Ok(if ended.shell_code() == 0 { Ok(printed) } else { Err(complained) })
}

fn read(from: OwnedFd) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::from(from).take(MAX_OUTPUT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Keeps the lines of `pids` in what `ps` printed, and those of their threads, which have `-` for a pid.
fn parse(printed: &str, pids: &[i32]) -> Result<TopResponse> {
    let mut lines = printed.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::internal("Couldn't find PID field in ps output"));
    };
    let mut processes = Vec::new();
    let mut kept_last = false;
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(&pid) = words.get(column) else { continue };
        kept_last = match pid {
            "-" => kept_last,
            pid => {
                let wrong = |_| Error::internal(format!("Unexpected pid '{pid}'"));
                pids.contains(&pid.parse::<i32>().map_err(wrong)?)
            }
        };
        if kept_last {
            processes.push(row(&words, titles.len()));
        }
    }
    Ok(TopResponse { titles, processes })
}

/// As many cells as there are titles: the last one takes the rest of the line.
fn row(words: &[&str], columns: usize) -> Vec<String> {
    let (cells, rest) = words.split_at(words.len().min(columns.saturating_sub(1)));
    let mut row: Vec<String> = cells.iter().map(|&cell| cell.to_owned()).collect();
    row.push(rest.join(" "));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_takes_the_rest_and_others_processes_go() {
        let printed = "UID PID CMD\nroot 1 init\nroot 7 sleep 300  now\nroot - -\nroot 8 x\nroot - -\n";
        let top = parse(printed, &[7]).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "CMD"]);
        assert_eq!(top.processes, [["root", "7", "sleep 300 now"], ["root", "-", "-"]]);
        let error = parse("COMMAND\nsh\n", &[1]).unwrap_err();
        assert_eq!(error.message(), "Couldn't find PID field in ps output");
    }

    #[test]
    fn the_column_of_pids_cannot_be_faked() {
        assert_eq!(check("-o comm=PID").unwrap_err().message(), "specifying \"comm=PID\" is not allowed");
        assert!(check("-o pid,comm").is_ok());
    }

    #[test]
    fn the_hosts_ps_lists_this_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        for args in ["-ef", "aux", "-ef f"] {
            let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
            let top = parse(&list(&args, &[own]).unwrap(), &[own]).unwrap();
            assert_eq!(top.processes.len(), 1, "{args:?}");
        }
        let error = list(&["--bogus".to_owned()], &[own]).unwrap_err();
        assert!(error.message().starts_with("ps: error: "), "{error}");
    }
}
