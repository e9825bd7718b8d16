//! Private namespaces for one test or program, so that nothing of it can reach the host or outlive it.
//!
//! The current executable is started again under unshare(1) in mount, network and PID namespaces of its own; as PID 1
//! of the latter it takes every process with it when it ends, however it ends (pid_namespaces(7)).

use std::fs;
use std::io::{BufRead, BufReader, Write, pipe};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::geteuid;

use crate::command::{Command, command};
use crate::machine_lock::{self, Company};
use crate::vm::image::Image;
use crate::{installed, network, packages};

/// Where the state of a rig lives: a tmpfs in the private mount namespace, over a directory that the distribution
/// ships empty and that no program of the nodes uses.
pub const STATE: &str = "/var/local";

/// Set for the inner run; its value is the kind of isolation.
const INSIDE: &str = "CTS_TESTS_INSIDE";

/// Packages and programs are looked after once in a process, not once a test; for nodes, and for guests.
static PREPARED: [OnceLock<Result<(), String>>; 2] = [const { OnceLock::new() }; 2];

/// How much of a machine of its own the body needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A cluster: packages are installed, the rig's programs and these agents of the workspace are built, the
    /// lock of the machine is held, the bridge is there.
    Cluster(&'static [&'static str]),
    /// Guests of the second rig: the same, with the packages of a hypervisor and an image for the guests, and without the
    /// bridge.
    Guests(&'static [&'static str]),
    /// Interfaces and addresses only: a private network with `lo` up, fresh /sys and /run, no lock.
    Network,
}

impl Isolation {
    fn word(self) -> &'static str {
        match self {
            Self::Cluster(_) => "cluster",
            Self::Guests(_) => "guests",
            Self::Network => "network",
        }
    }
}

/// Runs `body` isolated, and returns its result.
///
/// Called first in a test, the test is run again alone in the inner process and the outer one reports its outcome;
/// called first in a program, the whole program is run again with the same arguments and the outer one never returns.
/// What a test does after this call, it does in both processes.
pub fn enter(isolation: Isolation, body: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::env::var(INSIDE).is_ok_and(|word| word == isolation.word()) {
        // The outer program has blocked an interrupt, and a child inherits that (signal(7)).
        SigSet::empty().thread_set_mask()?;
        furnish(isolation)?;
        return body();
    }
    ensure!(geteuid().is_root(), "namespaces, bridges and mounts need root: run this as root (or with sudo -E)");
    let _lock = match isolation {
        Isolation::Cluster(agents) | Isolation::Guests(agents) => {
            if is_program() {
                writeln!(std::io::stderr(), "building the programs of the nodes (a minute, the first time)")?;
            }
            let guests = matches!(isolation, Isolation::Guests(_));
            let packages =
                if guests { [packages::GUEST, packages::HYPERVISOR].concat() } else { packages::CLUSTER.to_vec() };
            let prepare = || packages::require(&packages).and_then(|()| installed::build(agents));
            let prepared =
                PREPARED[usize::from(guests)].get_or_init(|| prepare().map_err(|error| format!("{error:#}")));
            prepared.as_ref().map_err(|reason| anyhow!("{reason}"))?;
            // What a program does is measured, or shown.
            let company = if is_program() { Company::None } else { Company::Others };
            let lock = machine_lock::lock(guests, company)?;
            if guests {
                Image::build()?;
            }
            Some(lock)
        }
        Isolation::Network => None,
    };
    match thread::current().name() {
        Some("main") | None => run_program(isolation),
        Some(test) => run_test(isolation, test),
    }
}

/// Not a test: each of those has a thread of its own.
fn is_program() -> bool {
    thread::current().name() == Some("main")
}

/// `setpriv` ends the inner side even when the outer process is killed outright. A shell has what it runs in the background
/// ignore SIGINT, which the agents' processes would inherit.
fn unshared(isolation: Isolation) -> Result<Command> {
    let words = "env --default-signal=INT setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child \
                 --mount-proc --propagation private --";
    let executable = std::env::current_exe()?;
    Ok(command(words.split_whitespace()).arg(executable).env(INSIDE, isolation.word()))
}

fn run_program(isolation: Isolation) -> Result<()> {
    // The inner program decides what an interrupt means; this one only waits for it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let status = unshared(isolation)?.args(std::env::args_os().skip(1)).watched()?;
    std::process::exit(status.code().unwrap_or(1))
}

fn run_test(isolation: Isolation, test: &str) -> Result<()> {
    let (output, input) = pipe()?;
    let harness = ["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"];
    let mut child = unshared(isolation)?.args(harness).start_into(input)?;
    let heading = format!("test {test} ... ");
    let mut ran = false;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        ran |= line.starts_with("test result:") && !line.contains(" 0 passed; 0 failed");
        // The inner harness's own lines would be mistaken for results of the outer one.
        let line = line.strip_prefix(&heading).unwrap_or(&line);
        let inner = ["running 1 test", "test result:", "failures:"].iter().any(|word| line.starts_with(word));
        if !inner && !["", "ok", "FAILED", test].contains(&line.trim()) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    ensure!(ran, "the isolated run did not find the test `{test}` or died in it ({status})");
    ensure!(status.success(), "the isolated run of `{test}` failed ({status}); its output is above");
    Ok(())
}

fn furnish(isolation: Isolation) -> Result<()> {
    let tmpfs = |directory: &str, options: &str| {
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options))
            .with_context(|| format!("cannot mount a tmpfs on {directory} of the private mount namespace"))
    };
    tmpfs(STATE, "mode=755")?;
    match isolation {
        Isolation::Cluster(_) => network::create_bridge(),
        // The length of a socket's queue; with the kernel's 10 datagrams a burst between guests would lose frames (unix(7)).
        Isolation::Guests(_) => Ok(fs::write("/proc/sys/net/unix/max_dgram_qlen", "512")?),
        Isolation::Network => {
            tmpfs("/run", "mode=755")?;
            fs::create_dir_all("/run/resource-agents")?;
            fs::create_dir_all("/run/lock")?;
            // sysfs shows the interfaces of the network namespace it was mounted in (sysfs(5)).
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?;
            command(["ip", "link", "set", "lo", "up"]).within(Duration::from_secs(5)).text().map(drop)
        }
    }
}
