//! `ocf:greenarrow:services` where svscan is a unit of systemd's, with the real one as PID 1 of a namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use cts_tests::agent::{Agent, in_private_network};
use cts_tests::command::{Output, Running, command};
use cts_tests::daemontools::{Places, Service};
use cts_tests::greenarrow::Tree;
use cts_tests::supervision::Supervision;
use cts_tests::{installed, process, wait};
use nix::mount::{MsFlags, mount};

/// Booting nothing takes systemd a second; a busy machine takes more.
const BOOT: Duration = Duration::from_secs(30);

/// systemd, and the cgroup that it manages; both end with the test.
struct Systemd {
    unshare: Running,
    init: u32,
    cgroup: PathBuf,
}

impl Systemd {
    fn boot(scan: &str) -> Result<Self> {
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
            .arg(format!("svscan=/usr/bin/svscan {scan}"))
            .arg("broken=/bin/false")
            .start(File::create("/run/systemd.log")?)?;
        let pid = unshare.pid();
        let (init, _) =
            wait::until_some("systemd's process", BOOT, wait::QUICK, || Ok(process::children(pid).first().copied()))?;
        let systemd = Self { unshare, init, cgroup };
        let running = || Ok(systemd.run(&["systemctl", "is-system-running"])?.stdout.trim() == "running");
        let booted = wait::until("systemd to run", BOOT, Duration::from_millis(100), running);
        booted.with_context(|| fs::read_to_string("/run/systemd.log").unwrap_or_default())?;
        Ok(systemd)
    }

    fn inside(&self) -> Vec<String> {
        let words = ["nsenter", "-t", &self.init.to_string(), "-m", "-u", "-i", "-p", "-C", "--"];
        words.map(str::to_owned).into()
    }

    fn run(&self, argv: &[&str]) -> Result<Output> {
        command(self.inside()).args(argv).bare_environment().run()
    }

    /// Runs an action of the agent beside systemd.
    fn agent(&self, agent: &Agent, action: &str) -> Result<Output> {
        let inside = self.inside();
        agent.command(&inside.iter().map(String::as_str).collect::<Vec<_>>(), action).run()
    }

    fn exits(&self, status: i32, agent: &Agent, action: &str) -> Result<Output> {
        let output = self.agent(agent, action)?;
        ensure!(output.code() == Some(status), "{action} had to end with {status}: {output:#?}");
        Ok(output)
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

#[test]
fn a_unit_of_systemd_is_started_for_svscan() -> Result<()> {
    in_private_network(&["services"], || {
        let services = Supervision::here(Places::private());
        let tree = Tree::new(Places::private()).with(Service::new("hvmail-a").steady().with_log());
        services.lay_down(&tree.items())?;
        let scan = services.places().scan.clone();
        let agent = Agent::promotable_of("services", "mail")?;
        let agent = agent.set("service_dir", &scan).set("settle_time", "500ms").set("svscan", "svscan.service");
        let systemd = Systemd::boot(&scan)?;

        let refused = systemd.exits(1, &agent.clone().set("svscan", "absent.service"), "start")?;
        ensure!(refused.stderr.contains("systemctl start absent.service failed"), "{refused:#?}");
        ensure!(refused.stderr.contains("not found"), "systemctl's own words are missing: {refused:#?}");
        let dies = systemd.exits(1, &agent.clone().set("svscan", "broken"), "start")?;
        ensure!(dies.stderr.contains("5 s later none runs in"), "{dies:#?}");

        systemd.exits(0, &agent, "start")?;
        let active = systemd.run(&["systemctl", "is-active", "svscan.service"])?;
        assert_eq!(active.stdout.trim(), "active");
        systemd.exits(0, &agent, "promote")?;
        systemd.exits(8, &agent, "monitor")?;
        systemd.exits(0, &agent, "stop")?;
        // Services of others may run under it.
        let active = systemd.run(&["systemctl", "is-active", "svscan.service"])?;
        assert_eq!(active.stdout.trim(), "active");
        systemd.exits(7, &agent, "monitor").map(drop)
    })
}
