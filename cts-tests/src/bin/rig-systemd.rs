//! PID 1 of a private PID namespace: lays a few units down and becomes the distribution's systemd, with nothing of the host's
//! to start.
//!
//! Usage: rig-systemd UNIT…, in fresh mount, PID and cgroup namespaces. A unit is NAME=COMMAND, which is started by whoever
//! asks for it, or a file, which is enabled as an administrator does it.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cts_tests::command::command;
use nix::mount::{MsFlags, mount};
use nix::unistd::execve;

/// Where units are, the administrator's and the distribution's.
const UNITS: [&str; 2] = ["/etc/systemd/system", "/usr/lib/systemd/system"];

/// What units are made of at a boot: by generators, of scripts of System V among others (systemd-sysv-generator(8)).
const SOURCES: [&str; 2] = ["/etc/init.d", "/usr/lib/systemd/system-generators"];

/// What a service depends on unless it says otherwise (systemd.service(5), "Default Dependencies"), and what a boot is for; each
/// with what it needs (bootup(7)).
const TARGETS: [(&str, &str); 6] = [
    ("local-fs", ""),
    ("sysinit", "local-fs"),
    ("basic", "sysinit"),
    ("network-online", ""),
    ("shutdown", ""),
    ("multi-user", "basic"),
];

fn main() -> Result<()> {
    let none = None::<&str>;
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none)
        .context("no cgroup2 hierarchy")?;
    // Nothing of the host's is seen there: its own cluster and database would start here, on its own files.
    for directory in UNITS.into_iter().chain(SOURCES) {
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), none)
            .context("cannot hide the host's units")?;
    }
    for (target, needs) in TARGETS {
        let needs =
            if needs.is_empty() { String::new() } else { format!("Requires={needs}.target\nAfter={needs}.target\n") };
        let unit = format!("[Unit]\nDescription={target}\nDefaultDependencies=no\n{needs}");
        fs::write(format!("{}/{target}.target", UNITS[0]), unit)?;
    }
    for argument in std::env::args().skip(1) {
        lay_down(&argument).with_context(|| argument)?;
    }
    let words =
        ["/lib/systemd/systemd", "--system", "--unit=multi-user.target", "--log-target=console", "--show-status=0"];
    // systemd takes a container's word for what it may do (https://systemd.io/CONTAINER_INTERFACE).
    let environment = ["container=lxc", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    let text = |words: &[&str]| words.iter().map(|word| CString::new(*word)).collect::<Result<Vec<_>, _>>();
    let argv = text(&words)?;
    execve(&argv[0], &argv, &text(&environment)?)?;
    Ok(())
}

fn lay_down(argument: &str) -> Result<()> {
    let [own, packaged] = UNITS;
    if let Some((name, command)) = argument.split_once('=') {
        let unit = format!("[Unit]\nDescription={name}\nDefaultDependencies=no\n[Service]\nExecStart={command}\n");
        return Ok(fs::write(format!("{own}/{name}.service"), unit)?);
    }
    let name = Path::new(argument).file_name().context("usage: rig-systemd NAME=COMMAND|FILE…")?;
    fs::copy(argument, Path::new(packaged).join(name))?;
    // Without a systemd to talk to it makes the links and no more.
    command(["systemctl", "enable"]).arg(name).env("SYSTEMD_OFFLINE", "1").text().map(drop)
}
