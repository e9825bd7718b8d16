//! What monitor says of services that are not as they should be, and what that means to Pacemaker.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::daemontools::{Places, Service};
use cts_tests::greenarrow::{ACTIVE, HTTP, Init, Status, Tree, greenarrow_status, standard_tree};
use cts_tests::services::{STATE_FILE, beside, bring_up, by_hand, guarded, plain, promotable, take_down};
use cts_tests::supervision::{AMPLE, Supervision};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

/// Runs `body` beside these services.
fn beside_these(all: &[Service], body: impl FnOnce(&Supervision) -> Result<()>) -> Result<()> {
    let tree = all.iter().fold(Tree::new(Places::private()), |tree, service| tree.with(service.clone()));
    beside(&tree, body)
}

fn two() -> [Service; 2] {
    ["hvmail-a", "hvmail-b"].map(Service::new)
}

/// A promoted instance.
fn promoted() -> Result<Agent> {
    let agent = promotable()?;
    agent.succeeds(&["start", "promote"])?;
    agent.exits(8, "monitor")?.without_reason()?;
    Ok(agent)
}

/// The process of a service that is up.
fn process_of(services: &Supervision, name: &str) -> Result<u32> {
    services.process_of(name)?.with_context(|| format!("{name} is not up"))
}

/// Kills the process of a service and waits until supervise has started the next one.
fn restarted(services: &Supervision, name: &str) -> Result<u32> {
    let before = process_of(services, name)?;
    process::signal(before, Signal::SIGKILL)?;
    let next = || Ok(services.svstat(name)?.pid.filter(|pid| *pid != before));
    Ok(wait::until_some("supervise to start the service again", AMPLE, wait::QUICK, next)?.0)
}

#[test]
fn a_service_that_was_taken_down_degrades_and_a_critical_one_fails() -> Result<()> {
    beside_these(&two(), |services| {
        let promoted = promoted()?;
        take_down(services, &["hvmail-b"])?;
        services.wait_names(&["hvmail-a"])?;
        let words = ["hvmail-b was taken down; svc -u brings it up"];
        promoted.exits(191, "monitor")?.says(&words)?;
        let critical = promoted.clone().set("critical", "hvmail-b");
        critical.exits(9, "monitor")?.says(&words)?.says(&["(critical)"])?;
        promoted.clone().set("critical", "hvmail-a").exits(191, "monitor")?.says(&words)?;
        plain()?.exits(190, "monitor")?.says(&words)?;
        plain()?.set("critical", "hvmail-*").exits(1, "monitor")?.says(&words)?;
        ensure!(services.names()? == ["hvmail-a"], "a monitor has brought up what somebody took down");

        take_down(services, &["hvmail-a"])?;
        services.wait_names(&[])?;
        let none = ["none of the services in /run/service runs", "hvmail-a was taken down", "hvmail-b was taken down"];
        promoted.exits(9, "monitor")?.says(&none)?;
        plain()?.exits(1, "monitor")?.says(&none)?;
        bring_up(services, &["hvmail-a", "hvmail-b"])?;
        services.wait_names(&["hvmail-a", "hvmail-b"])?;
        promoted.exits(191, "monitor")?;
        promoted.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn one_restart_is_reported_once_and_a_second_one_soon_after_is_flapping() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promoted()?;
        restarted(services, "hvmail-b")?;
        agent.exits(191, "monitor")?.says(&["hvmail-b has ended and was started again by its supervise"])?;
        agent.exits(8, "monitor")?.without_reason()?;
        restarted(services, "hvmail-b")?;
        let words = ["hvmail-b is flapping: it has ended twice within 60 s"];
        agent.clone().set("critical", "hvmail-b").exits(9, "monitor")?.says(&words)?.says(&["(critical)"])?;
        restarted(services, "hvmail-b")?;
        agent.exits(191, "monitor")?.says(&words)?;
        agent.exits(8, "monitor")?.without_reason()?;
        // Farther apart than the window there are restarts, and no flapping.
        thread::sleep(Duration::from_millis(1100));
        restarted(services, "hvmail-b")?;
        let short = agent.set("flap_window", "1s").set("critical", "hvmail-b");
        short.exits(191, "monitor")?.says(&["was started again by its supervise"])?;
        Ok(())
    })
}

#[test]
fn a_service_that_dies_at_once_hinders_the_others_only_if_it_is_critical() -> Result<()> {
    let dying = Service::new("hvmail-b").dies_at_once(3).with_log();
    beside_these(&[Service::new("hvmail-a"), dying], |services| {
        let agent = promotable()?;
        agent.succeeds(&["start"])?;
        let words = ["hvmail-b flaps: it ended 3 times", "it logged last: ", "fatal: hvmail-b cannot read its config"];
        agent.exits(0, "promote")?.without_reason()?.logs(&words)?.logs(&["up: 1 service of /run/service"])?;
        let flapping = |agent: &Agent, status| {
            wait::until("supervise to start it again", AMPLE, wait::QUICK, || {
                let answer = agent.run("monitor")?;
                Ok(answer.status == status && answer.reason.starts_with("hvmail-b is flapping"))
            })
        };
        flapping(&agent, 191)?;
        let critical = agent.clone().set("critical", "hvmail-b");
        flapping(&critical, 9)?;
        agent.succeeds(&["demote"])?;
        services.wait_names(&[])?;
        let failed = critical.exits(1, "promote")?.says(&words)?;
        failed.says(&["1 of 2 services did not settle, a critical one among them"])?;
        agent.succeeds(&["stop"])?;
        services.wait_names(&[])?;
        Ok(())
    })
}

#[test]
fn paused_wanted_down_and_up_although_normally_down_are_told_apart() -> Result<()> {
    let normally_down = Service::new("hvmail-down").down();
    let ignoring = Service::new("hvmail-deaf").ignores_term();
    beside_these(&[Service::new("hvmail-a"), Service::new("hvmail-b"), normally_down, ignoring], |services| {
        let agent = promoted()?;
        let says = |words: &str| agent.exits(191, "monitor")?.says(&[words]).map(drop);
        services.svc("-p", &["hvmail-b"])?;
        let paused = "hvmail-b is paused; svc -c lets it go on";
        wait::until("the pause", AMPLE, wait::QUICK, || Ok(agent.run("monitor")?.reason.contains(paused)))?;
        agent.clone().set("critical", "hvmail-b").exits(9, "monitor")?.says(&[paused])?;
        services.svc("-c", &["hvmail-b"])?;
        wait::until("its end", AMPLE, wait::QUICK, || Ok(agent.run("monitor")?.status == 8))?;

        let status = |name: &str| services.svstat(name).map(|svstat| svstat.words);
        services.svc("-o", &["hvmail-b"])?;
        wait::until("supervise to hear of it", AMPLE, wait::QUICK, || {
            Ok(agent.run("monitor")?.reason == "hvmail-b runs, but would not be started again; svc -u wants it up")
        })?;
        services.svc("-u", &["hvmail-b"])?;
        wait::until("its end", AMPLE, wait::QUICK, || Ok(agent.run("monitor")?.status == 8))?;

        services.svc("-d", &["hvmail-deaf"])?;
        let heard = || Ok(status("hvmail-deaf")?.ends_with(", want down"));
        wait::until("supervise to hear of it", AMPLE, wait::QUICK, heard)?;
        says("hvmail-deaf runs, but would not be started again; svc -u wants it up")?;
        // It does its work still.
        agent.clone().set("critical", "hvmail-deaf").exits(191, "monitor")?;
        services.svc("-u", &["hvmail-deaf"])?;

        bring_up(services, &["hvmail-down"])?;
        services.wait_names(&["hvmail-a", "hvmail-b", "hvmail-deaf", "hvmail-down"])?;
        says("hvmail-down is up, but is normally down; svc -d takes it down")?;
        agent.clone().set("critical", "hvmail-*").exits(191, "monitor")?;
        Ok(())
    })
}

#[test]
fn services_that_run_on_an_unpromoted_instance_fail_it() -> Result<()> {
    beside_these(&[Service::new("hvmail-a").with_log(), Service::new("hvmail-b")], |services| {
        let agent = promotable()?;
        agent.succeeds(&["start"])?;
        agent.exits(0, "monitor")?.without_reason()?;
        wait::until("supervise to run", AMPLE, wait::QUICK, || Ok(services.svok("hvmail-a/log").unwrap_or(false)))?;
        bring_up(services, &["hvmail-a/log"])?;
        agent.exits(190, "monitor")?.says(&["hvmail-a/log runs although this instance is unpromoted"])?;
        bring_up(services, &["hvmail-a"])?;
        services.wait_names(&["hvmail-a"])?;
        let words = ["hvmail-a runs although this instance is unpromoted. A demote or stop ends them"];
        agent.exits(9, "monitor")?.says(&words)?;
        agent.succeeds(&["demote"])?;
        services.wait_names(&[])?;
        agent.exits(0, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_missing_boot_guard_is_put_back_and_only_a_standby_speaks_of_it() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promotable()?;
        agent.succeeds(&["start"])?;
        let remove = || fs::remove_file(format!("{}/down", services.places().home("hvmail-b")));
        ensure!(guarded(services, "hvmail-b")?);
        // A supervise looks for it once, before it can be told anything.
        wait::until("supervise to run", AMPLE, wait::QUICK, || Ok(services.svok("hvmail-b").unwrap_or(false)))?;
        remove()?;
        let words = "hvmail-b has no boot guard: at boot svscan would start them";
        agent.exits(190, "probe")?.says(&[words])?;
        ensure!(!guarded(services, "hvmail-b")?, "a probe has changed something");
        agent.exits(190, "monitor")?.says(&[words, "put right: the boot guards are back"])?;
        ensure!(guarded(services, "hvmail-b")?);
        agent.exits(0, "monitor")?.without_reason()?;

        agent.succeeds(&["promote"])?;
        remove()?;
        // Somebody else is at work: nothing is repaired behind their back.
        let lock = STATE_FILE.replace(".state", ".lock");
        let other = command(["flock", &lock, "sleep", "60"]).start(std::process::Stdio::inherit())?;
        wait::until("the lock", AMPLE, wait::QUICK, || {
            Ok(fs::read_to_string("/proc/locks")?.contains(&format!(" {} ", other.pid())))
        })?;
        agent.exits(8, "monitor")?.logs(&["another action of this instance is running; nothing is changed"])?;
        ensure!(!guarded(services, "hvmail-b")?);
        drop(other);
        agent.exits(8, "monitor")?.without_reason()?.logs(&["put right: the boot guards are back"])?;
        ensure!(guarded(services, "hvmail-b")?);
        remove()?;
        agent.set("boot_guard", "false").exits(8, "monitor")?.without_reason()?;
        ensure!(!guarded(services, "hvmail-b")?);
        Ok(())
    })
}

#[test]
fn a_wrong_parameter_degrades_and_changes_nothing() -> Result<()> {
    beside_these(&two(), |services| {
        let agent = promoted()?;
        let before = services.running()?;
        for (name, value) in [("settle_time", "soon"), ("critical_services", "x"), ("pattern", "/service/x")] {
            let answer = agent.clone().set(name, value).run("monitor")?;
            let known = name != "critical_services";
            ensure!((answer.status == 191) == known && answer.reason.contains(name) == known, "{name}: {answer:#?}");
        }
        agent.succeeds(&["demote"])?;
        agent.clone().set("stop_escalation", "never").exits(190, "monitor")?.says(&["stop_escalation", "never"])?;
        agent.succeeds(&["promote"])?;
        ensure!(services.running()?.len() == before.len());
        agent.set("settle_time", "soon").exits(6, "promote")?.says(&["settle_time", "soon"])?;
        Ok(())
    })
}

#[test]
fn check_level_10_asks_the_ports_and_greenarrow_itself() -> Result<()> {
    beside(&standard_tree(Places::private()).init(Init::Works(0)), |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        let open = format!("127.0.0.1:{HTTP}");
        let deep = agent.clone().env("OCF_CHECK_LEVEL", "10").set("check_ports", &open);
        deep.exits(8, "monitor")?.without_reason()?;
        ensure!(services.calls()?.last().is_some_and(|call| call.trim() == "greenarrow_status"));
        let closed = format!("{open} 127.0.0.1:9");
        let closed = deep.clone().set("check_ports", &closed);
        let words = ["127.0.0.1:9 accepts no connection: Connection refused"];
        let answer = closed.exits(191, "monitor")?.says(&words)?;
        ensure!(!answer.reason.contains(&open), "{answer:#?}");
        closed.clone().set("critical", "*:9").exits(9, "monitor")?.says(&words)?.says(&["(critical)"])?;
        closed.clone().set("critical", "*:8080").exits(191, "monitor")?;
        closed.env("OCF_CHECK_LEVEL", "0").exits(8, "monitor")?.without_reason()?;

        services.lay_down(&[greenarrow_status(services.places(), Status::Red)])?;
        let red = deep.exits(191, "monitor")?;
        let words = "/run/var/hvmail/bin/greenarrow_status (exit status: 1): hvmail-httpd: DOWN";
        assert_eq!(red.reason, words);
        agent.exits(8, "monitor")?.without_reason()?;
        services.lay_down(&[greenarrow_status(services.places(), Status::Hangs)])?;
        let began = std::time::Instant::now();
        let hanging = deep.within(Duration::from_secs(3)).exits(191, "monitor")?;
        hanging.says(&["/run/var/hvmail/bin/greenarrow_status: did not end within", "and was killed"])?;
        ensure!(began.elapsed() < Duration::from_secs(3), "Pacemaker would have killed it: {:?}", began.elapsed());
        assert_eq!(services.names()?.iter().filter(|name| ACTIVE.contains(&name.as_str())).count(), ACTIVE.len());
        Ok(())
    })
}

/// Demands that a monitor that ends with this starts no program and forks nothing, and gives back at how many processes it
/// has looked.
fn starts_nothing(agent: &Agent, status: i32) -> Result<usize> {
    let calls = "trace=execve,execveat,clone,clone3,fork,vfork,openat";
    let tracer = ["strace", "-f", "-qq", "-e", calls, "-o", "/run/strace"];
    let output = agent.command(&tracer, "monitor").run()?;
    ensure!(output.code() == Some(status), "monitor under strace: {output:#?}");
    let calls = fs::read_to_string("/run/strace")?;
    let (opened, others): (Vec<_>, Vec<_>) = calls.lines().partition(|line| line.contains(" openat("));
    let alone = others.len() == 1 && others.iter().all(|line| line.contains(" execve("));
    ensure!(alone, "a monitor that ends with {status} made these calls: {others:#?}");
    Ok(opened.iter().filter(|line| line.contains("\"/proc/")).count())
}

#[test]
fn a_monitor_is_one_exec_and_no_fork_also_of_200_services() -> Result<()> {
    let many = (0..192).map(|number| Service::new(&format!("hvmail-more{number}")));
    let tree = many.fold(standard_tree(Places::private()), Tree::with).init(Init::Works(0));
    beside(&tree, |services| {
        let (clone, by_hand) = (promotable()?, by_hand()?);
        // Where Pacemaker runs too the agent remembers whom to tell; here it looks for it in vain each time.
        let cheap = |status| {
            starts_nothing(&clone, status)?;
            let looked = starts_nothing(&by_hand, status)?;
            ensure!(looked <= 2, "a monitor that ends with {status} looked at {looked} processes");
            Ok(())
        };
        cheap(7)?;
        clone.succeeds(&["start"])?;
        let all = || Ok(services.processes()?.iter().filter(|one| one.service.is_some()).count() > 200);
        wait::until("svscan to have started the supervises", AMPLE, wait::TOOL, all)?;
        clone.exits(0, "monitor")?.without_reason()?;
        cheap(0)?;
        clone.exits(0, "promote")?.logs(&["up: 200 services of /run/service"])?;
        clone.exits(8, "monitor")?.without_reason()?;
        cheap(8)?;
        let deep =
            by_hand.env("OCF_CHECK_LEVEL", "10").set("status_command", "/none").set("check_ports", "127.0.0.1:25");
        starts_nothing(&deep, 8)?;
        assert_eq!(services.names()?.len(), 202);
        Ok(())
    })
}
