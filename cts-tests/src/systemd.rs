//! The distribution's systemd as PID 1 of a namespace, with a few units and nothing of the host's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::command::{Output, Running, command};
use crate::{installed, process, wait};

/// Booting nothing takes systemd a second; a busy machine takes more.
const BOOT: Duration = Duration::from_secs(30);

/// systemd, and the cgroup that it manages; both end with the test.
#[derive(Debug)]
pub struct Systemd {
    unshare: Running,
    init: u32,
    cgroup: PathBuf,
}

impl Systemd {
    /// Boots with these units: `NAME=COMMAND`, which somebody may start, or a file, which is enabled.
    pub fn boot(units: &[&str]) -> Result<Self> {
        let hierarchy = Path::new("/run/cgroup");
        fs::create_dir_all(hierarchy)?;
        mount(Some("cgroup2"), hierarchy, Some("cgroup2"), MsFlags::empty(), None::<&str>).context("no cgroup2")?;
        let cgroup = hierarchy.join(format!("cts-{}", moment()?));
        fs::create_dir(&cgroup)?;
        // A cgroup namespace has its root where the process is that makes it (cgroup_namespaces(7)).
        fs::write(cgroup.join("cgroup.procs"), "0")?;
        let words =
            "unshare --mount --uts --ipc --pid --cgroup --fork --kill-child --mount-proc --propagation private --";
        let unshare = command(words.split_whitespace())
            .arg(installed::rig_program("rig-systemd")?)
            .args(units)
            .start(File::create("/run/systemd.log")?)?;
        let pid = unshare.pid();
        let (init, _) =
            wait::until_some("systemd's process", BOOT, wait::QUICK, || Ok(process::children(pid).first().copied()))?;
        let systemd = Self { unshare, init, cgroup };
        // Degraded is how it calls itself where a unit has failed.
        let running = || {
            let state = systemd.run(&["systemctl", "is-system-running"])?;
            Ok(["running", "degraded"].contains(&state.stdout.trim()))
        };
        let booted = wait::until("systemd to run", BOOT, Duration::from_millis(100), running);
        booted.with_context(|| fs::read_to_string("/run/systemd.log").unwrap_or_default())?;
        Ok(systemd)
    }

    /// Enters its namespaces.
    pub fn inside(&self) -> Vec<String> {
        let words = ["nsenter", "-t", &self.init.to_string(), "-m", "-u", "-i", "-p", "-C", "--"];
        words.map(str::to_owned).into()
    }

    /// Runs a program beside it.
    pub fn run(&self, argv: &[&str]) -> Result<Output> {
        command(self.inside()).args(argv).bare_environment().run()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // The cgroup can go when nobody is in it. One that is left is empty and harms nobody.
        let _ = process::signal(self.init, nix::sys::signal::Signal::SIGKILL);
        let _ = self.unshare.wait();
        let _ = fs::write("/run/cgroup/cgroup.procs", "0");
        let _ = wait::until("the cgroups to go", BOOT, wait::QUICK, || Ok(remove(&self.cgroup).is_ok()));
    }
}

/// A cgroup with those in it. Its files cannot be removed, and go with it (cgroups(7)).
fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// The names of cgroups are the host's, where another test may have this process's number.
fn moment() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}
