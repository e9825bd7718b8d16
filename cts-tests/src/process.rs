//! What /proc says about processes (proc(5)).

use std::fs;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The children of a process's main thread, from /proc/PID/task/PID/children; none when the process is gone.
pub fn children(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        .unwrap_or_default()
}

/// The parent of a process; none when the process is gone.
pub fn parent(pid: u32) -> Option<u32> {
    // The name before it, in parentheses, may hold anything.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A process's argument list; none when the process is gone or has become a zombie.
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Every process of the PID namespace whose PID 1 is `init` (an id in this process's namespace).
pub fn of_namespace(init: u32) -> Result<Vec<u32>> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let wanted = namespace(init).with_context(|| format!("the node's PID 1 ({init}) is gone"))?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if namespace(pid).is_ok_and(|one| one == wanted) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(pid)?), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(anyhow!("cannot send {signal} to process {pid}: {error}")),
    }
}
