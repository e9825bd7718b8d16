//! The life of an instance: each role and the way to it, what comes up and goes down in which order, and services that
//! were there before the cluster.

use std::fs;

use anyhow::{Context, Result, ensure};
use cts_tests::daemontools::{Places, Service};
use cts_tests::disk::Item;
use cts_tests::greenarrow::{ACTIVE, Init, Tree, standard_tree};
use cts_tests::services::{STATE_FILE, beside, guarded, plain, promotable, take_down};
use cts_tests::supervision::{AMPLE, Supervision};
use cts_tests::wait;

/// What svscan runs of the standard tree whatever the agent does: the database's service and one of somebody else's.
const STRANGERS: &[&str] = &["hvmail-postgres", "other-thing"];

fn standard() -> Tree {
    standard_tree(Places::private())
}

/// The strangers and these.
fn beside_strangers(own: &[&'static str]) -> Vec<&'static str> {
    let mut all = [own, STRANGERS].concat();
    all.sort_unstable();
    all
}

/// How often each of these services was started so far.
fn starts(services: &Supervision, names: &[&str]) -> Result<Vec<usize>> {
    names.iter().map(|name| services.starts(name)).collect()
}

/// When the process of a service changed last, by its supervise: the time in TAI64N, which sorts.
fn changed(services: &Supervision, name: &str) -> Result<Vec<u8>> {
    let path = format!("{}/supervise/status", services.places().home(name));
    let bytes = fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(bytes.get(..12).with_context(|| format!("{path} is too short"))?.to_owned())
}

fn has_a_session_of_its_own(pid: u32) -> Result<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let session = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3));
    Ok(session == Some(&pid.to_string()))
}

#[test]
fn a_promotable_instance_has_its_services_while_it_is_promoted_and_at_no_other_time() -> Result<()> {
    beside(&standard().init(Init::Works(1)), |services| {
        let agent = promotable()?;
        agent.exits(7, "probe")?.without_reason()?;
        agent.exits(7, "monitor")?.without_reason()?;
        ensure!(services.processes()?.is_empty(), "looking for it has started something");
        agent.exits(0, "start")?.without_reason()?;
        let svscan = services.svscan()?.context("svscan=start has started no svscan")?;
        ensure!(has_a_session_of_its_own(svscan)?, "Pacemaker's timeout of the start would have killed svscan");
        services.wait_names(STRANGERS)?;
        let strangers = services.running()?;
        for action in ["start", "monitor", "probe"] {
            agent.exits(0, action)?.without_reason()?;
        }

        for round in 1..=2 {
            agent.exits(0, "promote")?.without_reason()?.logs(&["up: 8 services of /run/service"])?;
            assert_eq!(services.names()?, beside_strangers(ACTIVE));
            agent.exits(8, "monitor")?.without_reason()?;
            agent.exits(8, "probe")?.without_reason()?;
            let before = services.running()?;
            agent.exits(0, "promote")?.without_reason()?;
            agent.exits(8, "monitor")?.without_reason()?;
            assert_eq!(services.running()?, before, "a second promote has restarted something");
            assert_eq!(starts(services, ACTIVE)?, [round; ACTIVE.len()]);
            if round == 1 {
                let words = ["hvmail_init stop: Stopping MTA: 1 messages left ...", "ended: 8 services"];
                agent.exits(0, "demote")?.without_reason()?.logs(&words)?;
                assert_eq!(services.running()?, strangers, "what does not belong to it was touched");
                agent.exits(0, "monitor")?.without_reason()?;
                agent.exits(0, "demote")?.without_reason()?.logs(&["ended: 0 services"])?;
            }
        }
        agent.exits(0, "stop")?.without_reason()?;
        assert_eq!(services.running()?, strangers);
        agent.exits(7, "monitor")?.without_reason()?;
        agent.exits(0, "stop")?.without_reason()?;
        agent.exits(7, "probe")?.without_reason()?;
        assert_eq!(
            services.calls()?.join(", "),
            "hvmail_init start, hvmail_init start, hvmail_init stop, \
            hvmail_init start, hvmail_init start, hvmail_init stop"
        );
        assert_eq!(services.read(&format!("{}/down", services.places().home("hvmail-qmail-smtpd3")))?, "");
        Ok(())
    })
}

#[test]
fn a_plain_resource_has_its_services_from_start_to_stop() -> Result<()> {
    beside(&standard().init(Init::Works(0)), |services| {
        let agent = plain()?;
        agent.exits(7, "probe")?.without_reason()?;
        for action in ["start", "start", "promote", "demote", "reload-agent"] {
            agent.exits(0, action)?.without_reason()?;
            agent.exits(0, "monitor")?.without_reason()?;
            services.wait_names(&beside_strangers(ACTIVE))?;
        }
        assert_eq!(starts(services, ACTIVE)?, [1; ACTIVE.len()]);
        for _ in 0..2 {
            agent.exits(0, "stop")?.without_reason()?;
            assert_eq!(services.names()?, STRANGERS);
            agent.exits(7, "monitor")?.without_reason()?;
        }
        Ok(())
    })
}

/// An hvmail_init that does nothing but write down what is up when it is called.
fn looking_init(places: &Places) -> Item {
    let (calls, scan) = (&places.calls, &places.scan);
    let script = format!("#!/bin/sh\necho \"$1\" >> {calls}\nsvstat {scan}/hvmail-* {scan}/hvmail-*/log >> {calls}\n");
    Item::program(places.program("hvmail_init"), script)
}

/// What was up when that hvmail_init was called with this word: services and logs, without the database's.
fn up_at(services: &Supervision, word: &str) -> Result<Vec<String>> {
    let prefix = format!("{}/", services.places().scan);
    let calls = services.calls()?;
    let of_call = calls.iter().skip_while(|line| *line != word).skip(1).take_while(|line| line.starts_with(&prefix));
    let up =
        of_call.filter_map(|line| line.strip_prefix(&prefix)?.split_once(": up ").map(|(name, _)| name.to_owned()));
    let mut up: Vec<_> = up.filter(|name| !name.starts_with("hvmail-postgres")).collect();
    up.sort();
    Ok(up)
}

#[test]
fn logs_come_first_and_go_last_and_the_studio_worker_the_other_way_round() -> Result<()> {
    let tree = standard();
    beside(&tree, |services| {
        services.lay_down(&[looking_init(services.places())])?;
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        let mut logs: Vec<_> = ACTIVE.iter().map(|name| format!("{name}/log")).collect();
        // The logs of services that stay down are up too, as they are under svscan alone.
        logs.extend(["hvmail-dnscache/log", "hvmail-qmail-smtpd3/log"].map(str::to_owned));
        logs.sort();
        assert_eq!(up_at(services, "start")?, logs);
        let worker = changed(services, "hvmail-studio-worker")?;
        for name in ACTIVE.iter().filter(|name| **name != "hvmail-studio-worker") {
            ensure!(changed(services, name)? < worker, "{name} was brought up after hvmail-studio-worker");
        }

        agent.succeeds(&["demote"])?;
        let others = ACTIVE.iter().filter(|name| **name != "hvmail-studio-worker").map(|name| (*name).to_owned());
        let mut expected: Vec<_> = others.chain(logs.iter().cloned()).collect();
        expected.sort();
        assert_eq!(up_at(services, "stop")?, expected);
        for log in &logs {
            ensure!(services.process_of(log)?.is_none(), "{log} is still up");
            for name in ACTIVE {
                ensure!(changed(services, name)? < changed(services, log)?, "{log} was ended before {name}");
            }
        }
        Ok(())
    })
}

#[test]
fn what_svscan_has_started_before_is_ended_by_a_start_and_does_not_come_back() -> Result<()> {
    let tree = standard().init(Init::Works(0));
    beside(&tree, |services| {
        services.start_svscan()?;
        services.wait_names(&tree.starting())?;
        let agent = promotable()?;
        agent.exits(0, "start")?.logs(&["WARNING: 9 services ran before the start and had to be ended"])?;
        assert_eq!(services.names()?, STRANGERS);
        agent.exits(0, "monitor")?.without_reason()?;
        for name in ACTIVE {
            ensure!(guarded(services, name)? && guarded(services, &format!("{name}/log"))?, "{name} is not guarded");
        }
        ensure!(!guarded(services, "hvmail-postgres")? && !guarded(services, "other-thing")?);
        Ok(())
    })
}

#[test]
fn without_svscan_and_leave_to_start_it_nothing_can_be_promoted_and_it_is_said() -> Result<()> {
    beside(&Tree::new(Places::private()).with(Service::new("hvmail-a")), |services| {
        let agent = promotable()?.set("svscan", "none");
        agent.exits(0, "start")?.without_reason()?;
        agent.exits(190, "monitor")?.says(&["no svscan runs in /run/service, and svscan=none starts none"])?;
        let words = ["no svscan runs in /run/service, so nothing can be started there", "svscan=start"];
        agent.exits(1, "promote")?.says(&words)?;
        ensure!(services.processes()?.is_empty());
        agent.exits(190, "monitor")?;
        services.start_svscan()?;
        agent.exits(0, "monitor")?.without_reason()?;
        agent.exits(0, "promote")?.without_reason()?;
        assert_eq!(services.names()?, ["hvmail-a"]);
        agent.succeeds(&["stop"])?;
        ensure!(services.svscan()?.is_some(), "a svscan that the system had started was ended");
        services.kill_everything()?;
        plain()?.set("svscan", "none").exits(1, "start")?.says(&words)?;
        Ok(())
    })
}

#[test]
fn just_what_the_parameters_and_the_down_files_say_is_brought_up() -> Result<()> {
    let names = ["web-a", "web-b", "web-down", "web-expected", "web-excluded", "other"];
    let tree = names.iter().fold(Tree::new(Places::private()), |tree, name| {
        let service = Service::new(name);
        tree.with(if *name == "web-down" { service.down() } else { service })
    });
    beside(&tree, |services| {
        let agent = promotable()?.set("pattern", "web-*").set("exclude", "*cluded").set("expected_down", "web-e*ed");
        agent.succeeds(&["start"])?;
        services.wait_names(&["other", "web-excluded"])?;
        take_down(services, &["other", "web-excluded"])?;
        services.wait_names(&[])?;
        agent.exits(0, "promote")?.logs(&["up: 2 services of /run/service"])?;
        assert_eq!(services.names()?, ["web-a", "web-b"]);
        agent.exits(8, "monitor")?.without_reason()?;
        // With a changed parameter a second promote brings up what is missing, and nothing twice.
        agent.clone().set("expected_down", "").exits(0, "promote")?.without_reason()?;
        assert_eq!(services.names()?, ["web-a", "web-b", "web-expected"]);
        assert_eq!(starts(services, &["web-a", "web-b", "web-down"])?, [1, 1, 0]);
        Ok(())
    })
}

/// Waits until everything has settled under svscan, as before the cluster took over.
fn as_the_vendor_left_it(services: &Supervision, tree: &Tree) -> Result<()> {
    services.start_svscan()?;
    services.wait_names(&tree.starting())?;
    take_down(services, &["hvmail-dnscache"])?;
    services.wait_names(&beside_strangers(ACTIVE))?;
    let logs = || ACTIVE.iter().map(|name| services.process_of(&format!("{name}/log"))).collect::<Result<Vec<_>>>();
    wait::until("the logs to run", AMPLE, wait::QUICK, || Ok(logs()?.iter().all(Option::is_some))).map(drop)
}

#[test]
fn services_that_are_up_before_the_cluster_are_taken_over_as_they_are() -> Result<()> {
    let tree = standard();
    beside(&tree, |services| {
        as_the_vendor_left_it(services, &tree)?;
        let before = services.running()?;
        for (agent, status) in [(promotable()?, 8), (plain()?, 0)] {
            let answer = agent.exits(status, "probe")?.without_reason()?;
            answer.logs(&["8 services ran before this instance was started"])?;
            ensure!(fs::read_to_string(STATE_FILE)?.starts_with("services 1 active "), "no record was written");
            ensure!(!guarded(services, ACTIVE[0])?, "a probe has changed something");
            agent.exits(status, "monitor")?.without_reason()?;
            ensure!(guarded(services, ACTIVE[0])?, "the next start of svscan would start the services");
            agent.exits(status, "monitor")?.without_reason()?;
            assert_eq!(services.running()?, before, "something was restarted");
            fs::remove_file(STATE_FILE)?;
            ACTIVE.iter().try_for_each(|name| fs::remove_file(format!("{}/down", services.places().home(name))))?;
        }
        Ok(())
    })
}

#[test]
fn services_of_which_some_are_up_before_the_cluster_are_no_sound_instance() -> Result<()> {
    let tree = Tree::new(Places::private()).with(Service::new("hvmail-a").with_log()).with(Service::new("hvmail-b"));
    beside(&tree, |services| {
        services.start_svscan()?;
        services.wait_names(&["hvmail-a", "hvmail-b"])?;
        take_down(services, &["hvmail-b"])?;
        services.wait_names(&["hvmail-a"])?;
        for (agent, status) in [(promotable()?, 9), (plain()?, 1)] {
            for action in ["probe", "monitor"] {
                let words = ["hvmail-a", "although this instance was not started. A stop ends them"];
                agent.exits(status, action)?.says(&words)?;
                ensure!(!fs::exists(STATE_FILE)?);
            }
        }
        // A log alone is enough to be no stopped instance.
        take_down(services, &["hvmail-a"])?;
        services.wait_names(&[])?;
        promotable()?.exits(9, "monitor")?.says(&["hvmail-a/log runs although this instance was not started"])?;
        let agent = promotable()?;
        agent.exits(0, "stop")?.without_reason()?;
        agent.exits(7, "monitor")?.without_reason()?;
        ensure!(services.process_of("hvmail-a/log")?.is_none());
        Ok(())
    })
}
