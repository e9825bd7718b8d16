//! What a distribution's own units do at boot, done by the PID 1 of a node or a guest.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::User;

use crate::command::command;
use crate::wait;

/// What tmpfiles.d of the packages makes at boot.
pub fn runtime_directories() -> Result<()> {
    let daemon = User::from_name("hacluster")?.context("no user hacluster: is pacemaker installed?")?;
    for directory in ["/run/lock", "/run/corosync", "/run/resource-agents", "/var/log/corosync"] {
        fs::create_dir_all(directory)?;
    }
    for directory in ["/run/crm", "/var/log/pacemaker"] {
        fs::create_dir_all(directory)?;
        chown(directory, Some(daemon.uid.as_raw()), Some(daemon.gid.as_raw()))?;
    }
    Ok(())
}

/// What a distribution's own units start before the cluster.
pub fn start_daemon(argv: &[impl AsRef<std::ffi::OsStr>]) -> Result<()> {
    let log = File::options().create(true).append(true).open("/var/log/daemons.log")?;
    command(argv).bare_environment().daemon(log).map(drop)
}

/// As their systemd units do, without systemd: Corosync, and Pacemaker once Corosync answers.
pub fn start_cluster() -> Result<()> {
    command(["/usr/sbin/corosync"]).bare_environment().text()?;
    wait::until("corosync to answer", Duration::from_secs(20), Duration::from_millis(20), || {
        Ok(command(["corosync-cfgtool", "-s"]).bare_environment().run()?.status.success())
    })?;
    let log = File::options().create(true).append(true).open("/var/log/pacemakerd.log")?;
    // The unit's environment file is not read without systemd, so its two settings that matter here are given.
    command(["/usr/sbin/pacemakerd", "-f"])
        .bare_environment()
        .env("PCMK_logfile", "/var/log/pacemaker/pacemaker.log")
        .env("PCMK_ipc_type", "shared-mem")
        .daemon(log)?;
    Ok(())
}
