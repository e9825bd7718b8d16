//! A stop and what comes after it: directories that move with the Primary, a svscan or supervise that comes back, the boot
//! guards.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::command::command;
use cts_tests::daemontools::{Places, Service};
use cts_tests::greenarrow::Tree;
use cts_tests::process;
use cts_tests::services::{beside, guarded, promotable, sleepers};
use cts_tests::supervision::{AMPLE, Supervision};
use cts_tests::wait;
use nix::sys::signal::Signal;

/// svscan looks every five seconds, and what it starts needs a moment.
const NEXT_SCAN: Duration = Duration::from_secs(7);

/// Where the file system with the directories of the services is kept while it is not mounted in its place.
const DISK: &str = "/run/disk";

fn two() -> Vec<Service> {
    vec![Service::new("hvmail-a").with_log(), Service::new("hvmail-b")]
}

fn beside_these(all: &[Service], body: impl FnOnce(&Supervision) -> Result<()>) -> Result<()> {
    let tree = all.iter().fold(Tree::new(Places::private()), |tree, service| tree.with(service.clone()));
    beside(&tree, body)
}

fn mount(words: &[&str]) -> Result<()> {
    command(["mount"]).args(words).text().map(drop)
}

/// Runs `body` where the directories are on a file system of their own, as on a DRBD device.
fn on_a_file_system(body: impl FnOnce(&Supervision) -> Result<()>) -> Result<()> {
    beside(&Tree::new(Places::private()), |services| {
        let homes = services.places().homes.as_str();
        for directory in [DISK, homes] {
            fs::create_dir_all(directory)?;
        }
        mount(&["-t", "tmpfs", "none", DISK])?;
        mount(&["--bind", DISK, homes])?;
        services.lay_down(&two().iter().flat_map(|one| one.items(services.places())).collect::<Vec<_>>())?;
        body(services)
    })
}

#[test]
fn after_a_demote_their_file_system_can_be_unmounted_and_a_promote_waits_for_the_scan_after_its_return() -> Result<()> {
    on_a_file_system(|services| {
        let homes = services.places().homes.as_str();
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        for action in ["demote", "stop"] {
            ensure!(command(["umount", homes]).run()?.code() != Some(0), "the services do not hold the file system");
            agent.exits(0, action)?.without_reason()?;
            command(["umount", homes]).text()?;
            if action == "stop" {
                agent.exits(7, "monitor")?.without_reason()?;
                agent.exits(0, "start")?.without_reason()?;
            }
            agent.exits(0, "monitor")?.without_reason()?;
            agent.exits(1, "promote")?.says(&["there is no service to bring up", "which is not there", "mounted?"])?;
            agent.succeeds(&["demote"])?;
            mount(&["--bind", DISK, homes])?;
            agent.exits(0, "promote")?.without_reason()?;
            assert_eq!(services.names()?, ["hvmail-a", "hvmail-b"]);
            agent.exits(8, "monitor")?.without_reason()?;
        }
        Ok(())
    })
}

#[test]
fn services_whose_directories_were_unmounted_under_them_are_ended_all_the_same() -> Result<()> {
    on_a_file_system(|services| {
        let homes = services.places().homes.as_str();
        let agent = promotable()?;
        for (action, supervise_dead) in [("demote", false), ("stop", true)] {
            agent.succeeds(&["start", "promote"])?;
            let supervises = ["hvmail-a", "hvmail-a/log", "hvmail-b"]
                .map(|name| services.supervise(name).map(Option::unwrap_or_default));
            let supervises: Vec<u32> = supervises.into_iter().collect::<Result<_>>()?;
            let log = services.process_of("hvmail-a/log")?.context("the log is not up")?;
            assert_eq!(sleepers()?.len(), 2);
            command(["umount", "--lazy", homes]).text()?;
            if supervise_dead {
                process::signal(supervises[2], Signal::SIGKILL)?;
            }
            agent.exits(0, action)?.without_reason()?;
            assert_eq!(sleepers()?, []);
            let left: Vec<_> =
                supervises.iter().chain([&log]).filter(|pid| !process::arguments(**pid).is_empty()).collect();
            ensure!(left.is_empty(), "these keep the file system busy: {left:?}");
            mount(&["--bind", DISK, homes])?;
        }
        Ok(())
    })
}

#[test]
fn without_a_guard_a_stop_waits_for_the_supervise_that_comes_back_and_tells_it() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?.set("boot_guard", "false");
        agent.succeeds(&["start", "promote"])?;
        services.kill_supervise("hvmail-b")?;
        agent.exits(0, "stop")?.without_reason()?;
        assert_eq!(sleepers()?, []);
        // Had the stop not waited, this is when it would be started.
        let back = || Ok(services.supervise("hvmail-b")?.is_some() && services.svok("hvmail-b")?);
        wait::until("the supervise to come back", NEXT_SCAN, wait::QUICK, back)?;
        for _ in 0..30 {
            assert_eq!(sleepers()?, [], "a service was started after the stop");
            thread::sleep(Duration::from_millis(50));
        }
        ensure!(!guarded(services, "hvmail-b")?, "it was the guard that kept it down");
        Ok(())
    })
}

#[test]
fn after_a_stop_no_svscan_starts_anything_of_it() -> Result<()> {
    beside_these(&[two(), vec![Service::new("other"), Service::new("hvmail-postgres")]].concat(), |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote", "stop"])?;
        services.kill_everything()?;
        services.start_svscan()?;
        services.wait_names(&["hvmail-postgres", "other"])?;
        let all = || Ok(services.svok("hvmail-a")? && services.svok("hvmail-a/log")? && services.svok("hvmail-b")?);
        wait::until("every supervise to run", NEXT_SCAN, wait::TOOL, all)?;
        thread::sleep(Duration::from_millis(1200));
        assert_eq!(services.names()?, ["hvmail-postgres", "other"]);
        ensure!(services.process_of("hvmail-a/log")?.is_none());
        agent.exits(7, "probe")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_stop_without_the_boot_guard_takes_away_just_its_own_down_files() -> Result<()> {
    beside_these(&[two(), vec![Service::new("hvmail-down").down()]].concat(), |services| {
        let down = |name: &str| format!("{}/down", services.places().home(name));
        fs::write(down("hvmail-b"), "taken out of service by kim until the disk is replaced\n")?;
        let agent = promotable()?;
        agent.succeeds(&["start", "promote", "stop"])?;
        assert_eq!(services.starts("hvmail-b")? + services.starts("hvmail-down")?, 0);
        ensure!(guarded(services, "hvmail-a")? && guarded(services, "hvmail-a/log")?);
        agent.set("boot_guard", "false").exits(0, "stop")?.logs(&["2 boot guards were removed"])?;
        ensure!(!fs::exists(down("hvmail-a"))? && !fs::exists(down("hvmail-a/log"))?);
        assert_eq!(fs::read_to_string(down("hvmail-down"))?, "");
        assert!(fs::read_to_string(down("hvmail-b"))?.contains("kim"));
        Ok(())
    })
}

#[test]
fn a_renamed_scan_directory_leaves_svscan_but_no_service() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        let svscan = services.svscan()?.context("no svscan")?;
        fs::rename(&services.places().scan, "/run/renamed")?;
        agent.exits(0, "stop")?.without_reason()?;
        // svscan starts its supervises again; the guards are what keeps the services down then.
        let again = || Ok(process::children(svscan).len() == 3);
        wait::until("svscan to have started them again", AMPLE, wait::TOOL, again)?;
        thread::sleep(Duration::from_millis(1200));
        assert_eq!(sleepers()?, []);
        Ok(())
    })
}
