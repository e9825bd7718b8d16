//! PID 1 of a guest: makes the file system, loads modules, brings the network up, and obeys the host.
//!
//! Starts as /init of the initramfs. The kernel's command line tells `rig.name=NAME`, `rig.number=NUMBER`,
//! `rig.volumes=COUNT` and `rig.trees=PLACE,…`.

mod machine;
mod service;

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use cts_tests::boot;
use cts_tests::command::reap_orphans;
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sethostname;

fn main() {
    let Err(error) = run();
    // Standard error is the console, which the host keeps.
    eprintln!("rig-guest: {error:#}");
    thread::sleep(Duration::from_secs(1));
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("rig-guest: cannot switch the power off: {error}");
}

fn run() -> Result<std::convert::Infallible> {
    machine::file_system().context("cannot make the file system")?;
    let line = fs::read_to_string("/proc/cmdline")?;
    let parameter = |name: &str| {
        let value =
            line.split_whitespace().find_map(|word| word.strip_prefix("rig.")?.strip_prefix(name)?.strip_prefix('='));
        value.with_context(|| format!("the kernel's command line has no rig.{name}: {line}"))
    };
    let name = parameter("name")?;
    sethostname(name)?;
    fs::write("/etc/hostname", format!("{name}\n"))?;
    reap_orphans()?;
    machine::modules()?;
    machine::network(parameter("number")?.parse()?)?;
    machine::volumes(parameter("volumes")?.parse()?)?;
    machine::trees(parameter("trees")?)?;
    boot::runtime_directories()?;
    service::serve()
}
