//! What monitor says, and mends, when the ground is taken from under the services: a supervise or svscan that was killed,
//! directories that are broken, gone or unmounted.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::daemontools::{Places, Service};
use cts_tests::greenarrow::Tree;
use cts_tests::services::{beside, guarded, plain, promotable, sleepers, take_down};
use cts_tests::supervision::{AMPLE, Supervision};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

fn beside_these(all: &[Service], body: impl FnOnce(&Supervision) -> Result<()>) -> Result<()> {
    let tree = all.iter().fold(Tree::new(Places::private()), |tree, service| tree.with(service.clone()));
    beside(&tree, body)
}

fn two() -> [Service; 2] {
    ["hvmail-a", "hvmail-b"].map(Service::new)
}

fn process_of(services: &Supervision, name: &str) -> Result<u32> {
    services.process_of(name)?.with_context(|| format!("{name} is not up"))
}

/// Kills the supervise of a service while svscan is suspended, so that no other one comes before svscan goes on.
fn kill_supervise_for_now(services: &Supervision, name: &str) -> Result<u32> {
    let svscan = services.svscan()?.context("svscan does not run")?;
    process::signal(svscan, Signal::SIGSTOP)?;
    services.kill_supervise(name)?;
    Ok(svscan)
}

fn supervise_returns(services: &Supervision, svscan: u32, name: &str) -> Result<()> {
    process::signal(svscan, Signal::SIGCONT)?;
    let returned = || Ok(services.supervise(name)?.is_some() && services.svok(name)?);
    wait::until("svscan to start another supervise", AMPLE, wait::QUICK, returned).map(drop)
}

fn lives(pid: u32) -> bool {
    !process::arguments(pid).is_empty()
}

#[test]
fn what_a_killed_supervise_has_left_is_named_and_brought_up_anew_under_the_next_one() -> Result<()> {
    beside_these(&[Service::new("hvmail-a"), Service::new("hvmail-b").with_log()], |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        let orphan = process_of(services, "hvmail-b")?;
        let svscan = kill_supervise_for_now(services, "hvmail-b")?;
        let words =
            format!("hvmail-b runs as process {orphan}, but its supervise is dead and would not start it again");
        for (agent, status) in [(&agent, 191), (&agent.clone().set("critical", "hvmail-b"), 191), (&plain()?, 190)] {
            let answer = agent.exits(status, "monitor")?;
            assert_eq!(answer.reason, words);
        }
        supervise_returns(services, svscan, "hvmail-b")?;
        ensure!(lives(orphan) && services.process_of("hvmail-b")?.is_none(), "the guard did not keep it down");
        let down = "hvmail-b is down since its supervise was started anew";
        agent.exits(191, "probe")?.says(&[down])?;
        ensure!(lives(orphan), "a probe has changed something");
        let put_right = format!("put right: hvmail-b was brought up, and process {orphan} (sleep) ended");
        agent.clone().set("critical", "hvmail-b").exits(191, "monitor")?.says(&[down, &put_right])?;
        ensure!(!lives(orphan), "two of it run");
        assert_ne!(process_of(services, "hvmail-b")?, orphan);
        assert_eq!((services.starts("hvmail-a")?, services.starts("hvmail-b")?), (1, 2));
        agent.exits(8, "monitor")?.without_reason()?;
        // It is a person's deed from here on, also after that repair.
        take_down(services, &["hvmail-b"])?;
        services.wait_names(&["hvmail-a"])?;
        agent.exits(191, "monitor")?.says(&["hvmail-b was taken down"])?;
        assert_eq!(services.names()?, ["hvmail-a"]);
        Ok(())
    })
}

#[test]
fn without_the_boot_guard_the_service_that_runs_twice_is_ended_once() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?.set("boot_guard", "false");
        agent.succeeds(&["start", "promote"])?;
        let orphan = process_of(services, "hvmail-b")?;
        let svscan = kill_supervise_for_now(services, "hvmail-b")?;
        agent.exits(191, "monitor")?.says(&["its supervise is dead"])?;
        supervise_returns(services, svscan, "hvmail-b")?;
        let second = || Ok(services.svstat("hvmail-b")?.pid.filter(|pid| *pid != orphan));
        let (second, _) = wait::until_some("the second one", AMPLE, wait::QUICK, second)?;
        let words = format!("hvmail-b runs twice: process {orphan} is left of a supervise that died; put right: ");
        agent.exits(191, "monitor")?.says(&[&words])?;
        ensure!(!lives(orphan) && process_of(services, "hvmail-b")? == second, "the wrong one was ended");
        agent.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_killed_svscan_is_reported_and_the_services_go_on() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        services.kill_svscan()?;
        let words = "no svscan runs in /run/service: a supervise that dies is not started again. Restart the resource";
        agent.exits(191, "monitor")?.says(&[words])?;
        agent.exits(191, "probe")?.says(&[words])?;
        plain()?.exits(190, "monitor")?.says(&[words])?;
        ensure!(services.svscan()?.is_none() && services.running()?.len() == 2, "a monitor has changed something");
        Ok(())
    })
}

#[test]
fn directories_that_cannot_run_are_named_on_the_primary_and_on_the_standby() -> Result<()> {
    let broken = Service::new("hvmail-broken").broken_link();
    let norun = Service::new("hvmail-norun").without_run();
    beside_these(&[Service::new("hvmail-a"), Service::new("hvmail-mode"), norun, broken], |services| {
        let run = format!("{}/run", services.places().home("hvmail-mode"));
        fs::set_permissions(&run, Permissions::from_mode(0o644))?;
        let agent = promotable()?;
        agent.succeeds(&["start"])?;
        let words = [
            "/run/service/hvmail-mode/run is not executable: chmod 755 it",
            "/run/service/hvmail-norun/run is missing; reinstall it, or exclude the service",
        ];
        let absent = "/run/service/hvmail-broken is a link to /run/var/hvmail/service/hvmail-broken, which is not there: \
                      is the file system that holds it mounted?";
        let standby = agent.exits(190, "monitor")?.says(&[words[0], "and 1 more"])?.logs(&words)?;
        ensure!(!standby.log.contains("hvmail-broken"), "a standby need not have the directories: {standby:#?}");
        agent.exits(0, "promote")?.logs(&words)?.logs(&[absent, "the other services are brought up"])?;
        assert_eq!(services.names()?, ["hvmail-a"]);
        agent.exits(191, "monitor")?.says(&[absent])?.logs(&words)?;
        agent.clone().set("critical", "hvmail-broken").exits(9, "monitor")?.says(&[absent, "(critical)"])?;
        let critical = agent.clone().set("critical", "hvmail-mode");
        critical.exits(1, "promote")?.says(&[words[0], "hvmail-mode is critical"])?;
        let excluding = agent.set("exclude", "hvmail-mode hvmail-norun hvmail-broken");
        excluding.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_status_of_the_wrong_length_and_a_service_that_left_the_scan_directory_are_named() -> Result<()> {
    beside_these(&[Service::new("hvmail-a"), Service::new("hvmail-b"), Service::new("hvmail-c")], |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        let (b, c) = (process_of(services, "hvmail-b")?, process_of(services, "hvmail-c")?);
        fs::write(format!("{}/supervise/status", services.places().home("hvmail-b")), "short")?;
        let status = "/run/service/hvmail-b/supervise/status has 5 bytes, 18 are expected";
        let answer = agent.exits(191, "monitor")?.says(&[&format!("hvmail-b runs as process {b}"), status])?;
        ensure!(!answer.reason.contains("dead"), "its supervise lives: {answer:#?}");

        fs::remove_file(services.places().entry("hvmail-c"))?;
        let gone = [format!("hvmail-c runs as process {c}"), "is gone from the scan directory".to_owned()];
        let answer = agent.exits(191, "monitor")?.says(&[status])?.logs(&[&gone[0], &gone[1]])?;
        ensure!(!answer.reason.contains("dead"), "its supervise lives: {answer:#?}");
        process::signal(services.supervise("hvmail-c")?.context("no supervise")?, Signal::SIGKILL)?;
        process::signal(c, Signal::SIGKILL)?;
        wait::until("its end", AMPLE, wait::QUICK, || Ok(!lives(c)))?;
        agent.exits(191, "monitor")?.logs(&["hvmail-c is gone from the scan directory"])?;
        agent.clone().set("critical", "hvmail-c").exits(9, "monitor")?.says(&["hvmail-c is gone", "(critical)"])?;
        agent.exits(0, "stop")?.without_reason()?;
        services.wait_names(&[])?;
        agent.exits(7, "monitor")?;
        Ok(())
    })
}

/// Puts the directories of these services on a file system of their own, each or all of them together.
fn on_a_file_system(path: &str) -> Result<()> {
    fs::create_dir_all(path)?;
    command(["mount", "-t", "tmpfs", "none", path]).text().map(drop)
}

fn unmounted(agent: &Agent, services: &Supervision, path: &str, status: i32, says: &[&str]) -> Result<()> {
    agent.succeeds(&["start", "promote"])?;
    agent.exits(8, "monitor")?.without_reason()?;
    let pid = process_of(services, "hvmail-b")?;
    command(["umount", "--lazy", path]).text()?;
    ensure!(lives(pid));
    let answer = agent.exits(status, "monitor")?.says(says)?.says(&[&format!("hvmail-b runs as process {pid}")])?;
    ensure!(!answer.reason.contains("dead"), "its supervise lives: {answer:#?}");
    Ok(())
}

#[test]
fn a_file_system_unmounted_under_running_services_is_named() -> Result<()> {
    let tree = Tree::new(Places::private());
    beside(&tree, |services| {
        let places = services.places();
        let lay_down = || services.lay_down(&two().iter().flat_map(|one| one.items(places)).collect::<Vec<_>>());
        let agent = promotable()?;
        on_a_file_system(&places.home("hvmail-b"))?;
        lay_down()?;
        let entry = "/run/service/hvmail-b leads to another directory than the one it was brought up from";
        unmounted(&agent, services, &places.home("hvmail-b"), 191, &[entry, "is its file system mounted?"])?;
        agent.exits(0, "stop")?.without_reason()?;
        assert_eq!(sleepers()?, []);

        fs::remove_dir_all(&places.homes)?;
        on_a_file_system(&places.homes)?;
        lay_down()?;
        let link = format!("/run/service/hvmail-a is a link to {}", places.home("hvmail-a"));
        let words = [link.as_str(), "which is not there: is the file system that holds it mounted?"];
        // With all of them nothing is left that could be controlled.
        unmounted(&agent, services, &places.homes, 9, &words)?;
        ensure!(!Path::new(&places.home("hvmail-a")).exists());
        agent.exits(0, "stop")?.without_reason()?;
        assert_eq!(sleepers()?, []);
        ensure!(!guarded(services, "hvmail-a")?);
        agent.exits(7, "monitor")?.without_reason()?;
        Ok(())
    })
}
