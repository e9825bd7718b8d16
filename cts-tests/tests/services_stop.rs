//! A stop ends whatever runs, says 0 only when nothing does, and fails in time with the name of what is left.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::command::command;
use cts_tests::daemontools::{Places, Service};
use cts_tests::disk::Item;
use cts_tests::greenarrow::{Init, Tree, hvmail_init};
use cts_tests::services::{STATE_FILE, beside, plain, promotable, sleepers};
use cts_tests::supervision::{AMPLE, Supervision};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

fn beside_these(all: &[Service], body: impl FnOnce(&Supervision) -> Result<()>) -> Result<()> {
    let tree = all.iter().fold(Tree::new(Places::private()), |tree, service| tree.with(service.clone()));
    beside(&tree, body)
}

fn two() -> [Service; 2] {
    [Service::new("hvmail-a").with_log(), Service::new("hvmail-b")]
}

/// Nothing that a service has started may live, nor a logger.
fn nothing_runs(services: &Supervision) -> Result<()> {
    let own = |word: &String| word.ends_with("svscan") || word.ends_with("supervise");
    let left = services.processes()?.into_iter().filter(|one| !one.arguments.first().is_some_and(own));
    let left: Vec<_> = left.collect();
    ensure!(left.is_empty() && sleepers()?.is_empty(), "after a stop there run {left:#?} and {:?}", sleepers()?);
    Ok(())
}

fn until_it_sleeps(services: &Supervision, name: &str) -> Result<u32> {
    let sleeping = || {
        let pid = services.process_of(name)?;
        Ok(pid.filter(|pid| process::arguments(*pid).first().is_some_and(|word| word == "sleep")))
    };
    Ok(wait::until_some(&format!("{name} to have set its traps"), AMPLE, wait::QUICK, sleeping)?.0)
}

#[test]
fn a_service_that_takes_its_time_is_waited_for() -> Result<()> {
    beside_these(&[Service::new("hvmail-qmail-send").slow_stop(1).with_log()], |services| {
        let agent = promotable()?.set("settle_time", "1s");
        for action in ["demote", "stop"] {
            agent.succeeds(&["start", "promote"])?;
            let began = Instant::now();
            let answer = agent.exits(0, action)?.without_reason()?;
            ensure!(!answer.log.contains("WARNING"), "it was given no time: {answer:#?}");
            ensure!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
            nothing_runs(services)?;
        }
        // The last words of the service reached its log: that is ended after it.
        assert_eq!(services.log("hvmail-qmail-send")?.matches(" flushing the queue: 1 s left").count(), 2);
        assert_eq!(services.read(&format!("{}/flushed", services.places().home("hvmail-qmail-send")))?, "1\n1\n");
        Ok(())
    })
}

#[test]
fn a_supervise_that_stands_still_is_made_to_go_on() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?.within(Duration::from_secs(10));
        agent.succeeds(&["start", "promote"])?;
        let supervise = services.supervise("hvmail-a")?.context("no supervise runs for hvmail-a")?;
        process::signal(supervise, Signal::SIGSTOP)?;
        agent.exits(0, "stop")?.without_reason()?;
        nothing_runs(services)
    })
}

#[test]
fn what_ignores_a_signal_gets_the_next_one() -> Result<()> {
    let deaf = Service::new("hvmail-deaf").ignores_term();
    beside_these(&[Service::new("hvmail-a"), deaf, Service::new("hvmail-half")], |services| {
        let run = format!("{}/run", services.places().home("hvmail-half"));
        services.lay_down(&[Item::program(run, "#!/bin/sh\ntrap '' TERM\nexec sleep infinity\n")])?;
        // supervise hears nothing in the first second after a start (supervise.c: `deepsleep(1)`).
        let agent = promotable()?.set("stop_escalation", "500ms 2s 5s").set("settle_time", "1500ms");
        agent.succeeds(&["start", "promote"])?;
        let (deaf, half) = (until_it_sleeps(services, "hvmail-deaf")?, until_it_sleeps(services, "hvmail-half")?);
        let both = format!(
            "2 services (hvmail-deaf: process {deaf} (sleep); hvmail-half: process {half} (sleep)): SIGINT is sent"
        );
        let one = format!("1 service (hvmail-deaf: process {deaf} (sleep)): SIGKILL is sent");
        agent.exits(0, "demote")?.without_reason()?.logs(&[&both, &one])?;
        nothing_runs(services)?;
        // One that somebody has paused hears nothing before it goes on.
        agent.succeeds(&["stop", "start"])?;
        let agent = agent.set("settle_time", "300ms");
        agent.succeeds(&["promote"])?;
        services.svc("-p", &["hvmail-a"])?;
        agent.exits(0, "stop")?.without_reason()?;
        nothing_runs(services)
    })
}

#[test]
fn with_fewer_times_nothing_is_killed_and_the_stop_fails_in_time_and_says_what_is_left() -> Result<()> {
    beside_these(&[Service::new("hvmail-a"), Service::new("hvmail-deaf").ignores_term()], |services| {
        let agent = promotable()?.within(Duration::from_secs(3));
        agent.succeeds(&["start", "promote"])?;
        let pid = until_it_sleeps(services, "hvmail-deaf")?;
        let process = format!("1 service (hvmail-deaf: process {pid} (sleep)) still run");
        for (times, action, sent) in [
            ("60s", "demote", "TERM was sent, INT and KILL are not in stop_escalation"),
            ("60s 60s", "stop", "TERM and INT were sent, KILL is not in stop_escalation"),
            ("300ms 300ms", "demote", "TERM and INT were sent, KILL is not in stop_escalation"),
        ] {
            let began = Instant::now();
            agent.clone().set("stop_escalation", times).exits(1, action)?.says(&[&process, sent])?;
            ensure!(began.elapsed() < Duration::from_secs(3), "Pacemaker would have killed it: {times}");
            assert_eq!(sleepers()?, [pid]);
        }
        agent.exits(191, "monitor")?.says(&["hvmail-a was taken down", "hvmail-deaf runs, but would not"])?;
        agent.set("stop_escalation", "300ms 300ms 2s").exits(0, "stop")?.without_reason()?;
        nothing_runs(services)
    })
}

#[test]
fn children_and_daemons_of_a_service_end_with_it() -> Result<()> {
    beside_these(
        &[Service::new("hvmail-child").forks_child(), Service::new("hvmail-daemon").daemonises()],
        |services| {
            let agent = promotable()?;
            for action in ["demote", "stop"] {
                agent.succeeds(&["start", "promote"])?;
                let four = || Ok(services.running()?.len() == 4);
                wait::until("the children", AMPLE, wait::QUICK, four)?;
                agent.exits(0, action)?.without_reason()?;
                nothing_runs(services)?;
            }
            // A restart leaves a child behind: its directory tells whose it is.
            agent.succeeds(&["start", "promote"])?;
            let first = services.process_of("hvmail-child")?.context("it is not up")?;
            process::signal(first, Signal::SIGKILL)?;
            wait::until("the restart", AMPLE, wait::QUICK, || Ok(services.starts("hvmail-child")? == 4))?;
            agent.exits(0, "stop")?.without_reason()?;
            nothing_runs(services)
        },
    )
}

#[test]
fn orphans_are_ended_although_neither_supervise_nor_svscan_lives() -> Result<()> {
    beside_these(&two(), |services| {
        for action in ["demote", "stop"] {
            for with_record in [true, false] {
                let agent = promotable()?;
                agent.succeeds(&["start", "promote"])?;
                services.kill_svscan()?;
                services.kill_supervise("hvmail-b")?;
                if !with_record {
                    fs::remove_file(STATE_FILE)?;
                }
                agent.exits(0, action)?.without_reason()?;
                // The supervises went too: the next svscan starts its own, with pipes to the logs.
                services.nothing_is_left()?;
                assert_eq!(sleepers()?, []);
                agent.succeeds(&["stop"])?;
            }
        }
        Ok(())
    })
}

#[test]
fn an_hvmail_init_that_hangs_fails_or_may_not_be_run_hinders_no_stop() -> Result<()> {
    let tree = Tree::new(Places::private()).with(Service::new("hvmail-qmail-send").with_log());
    beside(&tree, |services| {
        let places = services.places();
        let program = places.program("hvmail_init");
        let agent = promotable()?.within(Duration::from_secs(6));
        let words = "its services are stopped through their supervises";
        for (init, mode, said) in [
            (Init::Fails, 0o755, "stop failed (exit status: 1): hvmail_init: cannot lock /var/hvmail/control/lock"),
            (Init::Hangs, 0o755, "did not end within"),
            (Init::Works(0), 0o777, "is not run: others than root may write it"),
            (Init::Works(0), 0o644, "is not an executable file"),
        ] {
            services.lay_down(&[hvmail_init(places, Init::Works(0))])?;
            agent.succeeds(&["start", "promote"])?;
            services.lay_down(&[hvmail_init(places, init), Item::file(places.calls.as_str(), "")])?;
            fs::set_permissions(&program, Permissions::from_mode(mode))?;
            agent.exits(0, "stop")?.without_reason()?.logs(&["WARNING: ", &program, said, words])?;
            assert_eq!(services.calls()?.len(), usize::from(mode == 0o755), "{init:?} with mode {mode:o}");
            nothing_runs(services)?;
        }
        Ok(())
    })
}

#[test]
fn without_its_record_its_parameters_or_its_scan_directory_a_stop_ends_everything() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?;
        let damages: [&[u8]; 2] = [b"services 1 active\nnonsense", &[0xff; 5000]];
        for (damage, action) in damages.iter().zip(["demote", "stop"]) {
            agent.succeeds(&["start", "promote"])?;
            fs::write(STATE_FILE, damage)?;
            agent.exits(1, "monitor")?.says(&[STATE_FILE])?;
            agent.exits(0, action)?.without_reason()?.logs(&["WARNING", STATE_FILE, "going by the scan directory"])?;
            nothing_runs(services)?;
            agent.exits(if action == "stop" { 7 } else { 0 }, "monitor")?.without_reason()?;
        }
        for (name, value) in [("settle_time", "soon"), ("service_dir", "relative/path")] {
            agent.succeeds(&["start", "promote"])?;
            agent.clone().set(name, value).exits(0, "stop")?.without_reason()?.logs(&[
                "WARNING",
                name,
                "stop goes on",
            ])?;
            nothing_runs(services)?;
        }
        agent.succeeds(&["start", "promote"])?;
        let aside = "/run/service.aside";
        fs::rename(&services.places().scan, aside)?;
        agent.exits(0, "stop")?.without_reason()?;
        nothing_runs(services)?;
        agent.exits(7, "monitor")?.without_reason()?;
        fs::rename(aside, &services.places().scan)?;
        agent.exits(7, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_person_at_work_in_a_service_directory_stays() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        let home = format!("--chdir={}", services.places().home("hvmail-b"));
        // A login outside, and what was started from it inside.
        let login = command(["timeout", "600", "env", &home, "sleep", "500"]).directory("/");
        let mut login = login.start(std::process::Stdio::null())?;
        let shell = || Ok(process::children(login.pid()).first().copied());
        let (shell, _) = wait::until_some("the shell", AMPLE, wait::QUICK, shell)?;
        let inside = || Ok(fs::read_link(format!("/proc/{shell}/cwd"))?.ends_with("hvmail-b"));
        wait::until("the shell to be in the directory", AMPLE, wait::QUICK, inside)?;
        for action in ["demote", "stop"] {
            agent.exits(0, action)?.without_reason()?;
            assert_eq!(sleepers()?, []);
        }
        ensure!(login.is_running() && !process::arguments(shell).is_empty(), "a stop has ended a person's shell");
        Ok(())
    })
}

/// A process whose process group is that of one that has ended, as many daemons are, and the number of the group.
fn stranger() -> Result<(u32, u32)> {
    let mut leader = command(["timeout", "600", "sleep", "500"]).directory("/").start(std::process::Stdio::null())?;
    let member = || Ok(process::children(leader.pid()).first().copied());
    let (member, _) = wait::until_some("a second process of the group", AMPLE, wait::QUICK, member)?;
    process::signal(leader.pid(), Signal::SIGKILL)?;
    leader.wait()?;
    Ok((member, leader.pid()))
}

#[test]
fn a_number_that_a_dead_supervise_has_left_on_disk_makes_no_stranger_a_part_of_the_service() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        services.kill_everything()?;
        fs::remove_file(STATE_FILE)?;
        // As after a reboot: the status is that of the last boot, and the number belongs to another group by now.
        let (stranger, group) = stranger()?;
        let path = format!("{}/supervise/status", services.places().home("hvmail-b"));
        let mut status = fs::read(&path)?;
        ensure!(status.len() == 18 && status[17] == b'u', "{status:x?}");
        status[12..16].copy_from_slice(&group.to_le_bytes());
        fs::write(&path, status)?;
        for action in ["stop", "start", "promote", "stop"] {
            agent.exits(0, action)?.without_reason()?;
            ensure!(!process::arguments(stranger).is_empty(), "{action} has ended a process of somebody else");
        }
        Ok(())
    })
}

#[test]
fn two_stops_at_once_both_succeed() -> Result<()> {
    beside_these(&[Service::new("hvmail-a").slow_stop(1).with_log(), Service::new("hvmail-b")], |services| {
        for agent in [promotable()?, plain()?] {
            agent.succeeds(&["start", "promote"])?;
            let mut both = [agent.begin("stop")?, agent.begin("stop")?];
            for stop in &mut both {
                ensure!(stop.wait()?.success());
            }
            nothing_runs(services)?;
            agent.exits(7, "monitor")?.without_reason()?;
        }
        Ok(())
    })
}
