//! PID 1 of a private PID namespace: lays a few units down and becomes the distribution's systemd, with nothing of the host's
//! to start.
//!
//! Usage: rig-systemd NAME=COMMAND…, in fresh mount, PID and cgroup namespaces; each unit NAME.service runs its command.

use std::ffi::CString;
use std::fs;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::execve;

/// Where an administrator's units are; nothing of the host's is seen there.
const UNITS: &str = "/etc/systemd/system";

fn main() -> Result<()> {
    let none = None::<&str>;
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none)
        .context("no cgroup2 hierarchy")?;
    mount(Some("tmpfs"), UNITS, Some("tmpfs"), MsFlags::empty(), none).context("cannot hide the host's units")?;
    // What is wanted at boot: nothing.
    fs::write(format!("{UNITS}/rig.target"), "[Unit]\nDescription=nothing\nDefaultDependencies=no\n")?;
    for argument in std::env::args().skip(1) {
        let (name, command) = argument.split_once('=').context("usage: rig-systemd NAME=COMMAND…")?;
        let unit = format!("[Unit]\nDescription={name}\nDefaultDependencies=no\n[Service]\nExecStart={command}\n");
        fs::write(format!("{UNITS}/{name}.service"), unit)?;
    }
    let words = ["/lib/systemd/systemd", "--system", "--unit=rig.target", "--log-target=console", "--show-status=0"];
    // systemd takes a container's word for what it may do (https://systemd.io/CONTAINER_INTERFACE).
    let environment = ["container=lxc", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    let text = |words: &[&str]| words.iter().map(|word| CString::new(*word)).collect::<Result<Vec<_>, _>>();
    let argv = text(&words)?;
    execve(&argv[0], &argv, &text(&environment)?)?;
    Ok(())
}
