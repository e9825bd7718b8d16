//! The emulated GreenArrow services, run by the distribution's daemontools alone: each behaves as its description says, or
//! a test of the agent would prove nothing.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::agent::in_private_network;
use cts_tests::cluster::Cluster;
use cts_tests::command::reap_orphans;
use cts_tests::daemontools::{Places, Service};
use cts_tests::greenarrow::{
    ACTIVE, HTTP, Init, MTA, SMTP, Status, Tree, greenarrow_status, hvmail_init, standard_tree,
};
use cts_tests::isolation::{Isolation, enter};
use cts_tests::port_watch::PortWatch;
use cts_tests::supervision::{AMPLE, Supervision};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

/// Runs `body` beside svscan with these services, once those that start by themselves run.
fn beside(tree: &Tree, body: impl FnOnce(&Supervision) -> Result<()>) -> Result<()> {
    in_private_network(&[], || {
        reap_orphans()?;
        let services = Supervision::here(tree.places.clone());
        services.lay_down(&tree.items())?;
        services.start_svscan()?;
        body(&services)
    })
}

fn only(service: Service) -> Tree {
    Tree::new(Places::private()).with(service)
}

/// The process of a service once supervise has started it.
fn started(services: &Supervision, name: &str) -> Result<u32> {
    let process = || services.process_of(name);
    Ok(wait::until_some(&format!("{name} to be started"), AMPLE, wait::QUICK, process)?.0)
}

fn until(what: &str, condition: impl FnMut() -> Result<bool>) -> Result<Duration> {
    wait::until(what, AMPLE, wait::QUICK, condition)
}

fn reaped(pid: u32) -> Result<()> {
    until("an orphan to be reaped", || Ok(!Path::new(&format!("/proc/{pid}")).exists())).map(drop)
}

fn is_down(services: &Supervision, name: &str) -> Result<bool> {
    Ok(services.svstat(name)?.words.starts_with("down "))
}

#[test]
fn a_steady_service_ends_at_term_and_svstat_agrees_with_proc() -> Result<()> {
    beside(&only(Service::new("a").steady().with_log()), |services| {
        let pid = started(services, "a")?;
        until("svstat to know the process", || Ok(services.svstat("a")?.pid == Some(pid)))?;
        until("run to become sleep", || Ok(process::arguments(pid).first().is_some_and(|word| word == "sleep")))?;
        assert_eq!(services.running()?, [("a".to_owned(), pid)]);
        assert_eq!(services.starts("a")?, 1);
        assert!(services.svok("a")? && services.svok("a/log")? && services.svscan()?.is_some());
        started(services, "a/log")?;

        services.svc("-d", &["a"])?;
        until("the service to be down", || is_down(services, "a"))?;
        services.wait_names(&[])?;
        assert!(services.svok("a")?, "supervise ended with its service");
        services.svc("-u", &["a"])?;
        until("the second start", || Ok(services.starts("a")? == 2))?;
        services.wait_names(&["a"])?;

        services.kill_everything()?;
        services.nothing_is_left()?;
        assert!(!services.svok("a")?);
        assert_eq!(services.svstat("a")?.words, "supervise not running");
        Ok(())
    })
}

#[test]
fn a_slow_stop_takes_its_time_and_writes_in_it() -> Result<()> {
    beside(&only(Service::new("a").slow_stop(2).with_log()), |services| {
        let pid = started(services, "a")?;
        until("run to become perl", || Ok(process::arguments(pid).first().is_some_and(|word| word == "perl")))?;
        // The signal's handler is set up some milliseconds after exec.
        thread::sleep(Duration::from_millis(500));
        services.svc("-d", &["a"])?;
        let flushed = || services.read(&format!("{}/flushed", services.places().home("a")));
        until("the flush to begin", || Ok(flushed()? == "2\n"))?;
        let svstat = services.svstat("a")?;
        assert!(svstat.pid == Some(pid) && svstat.words.ends_with(", want down"), "{svstat:?}");
        let took = until("the service to be down", || is_down(services, "a"))?;
        assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(4), "{took:?}");
        assert_eq!(flushed()?, "2\n1\n");
        assert!(services.log("a")?.contains(" flushing the queue: 1 s left"), "{}", services.log("a")?);
        Ok(())
    })
}

#[test]
fn a_service_that_ignores_term_ends_only_when_it_is_killed() -> Result<()> {
    beside(&only(Service::new("a").ignores_term()), |services| {
        let pid = started(services, "a")?;
        until("run to become sleep", || Ok(process::arguments(pid).first().is_some_and(|word| word == "sleep")))?;
        services.svc("-di", &["a"])?;
        until("svstat to say that it is to go", || Ok(services.svstat("a")?.words.ends_with(", want down")))?;
        thread::sleep(Duration::from_secs(1));
        assert_eq!(services.running()?, [("a".to_owned(), pid)]);
        services.svc("-k", &["a"])?;
        until("the service to be down", || is_down(services, "a"))?;
        services.wait_names(&[])
    })
}

#[test]
fn a_service_that_dies_is_started_again_and_again() -> Result<()> {
    let tree = only(Service::new("at-once").dies_at_once(1).with_log()).with(Service::new("later").dies_after(3));
    beside(&tree, |services| {
        until("three starts", || Ok(services.starts("at-once")? >= 3))?;
        assert!(services.svstat("at-once")?.seconds.is_some_and(|seconds| seconds <= 1));
        assert!(services.log("at-once")?.contains(" fatal: at-once cannot read its configuration\n"));
        until("two starts", || Ok(services.starts("later")? >= 2))?;
        Ok(())
    })
}

#[test]
fn children_and_daemons_outlive_their_service() -> Result<()> {
    beside(&only(Service::new("child").forks_child()).with(Service::new("daemon").daemonises()), |services| {
        let both = [("child", started(services, "child")?), ("daemon", started(services, "daemon")?)];
        until("four processes", || Ok(services.running()?.len() == 4))?;
        services.svc("-d", &["child", "daemon"])?;
        until("both to be down", || Ok(is_down(services, "child")? && is_down(services, "daemon")?))?;
        let left = services.running()?;
        let names: Vec<_> = left.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["child", "daemon"]);
        assert!(left.iter().all(|(name, pid)| !both.contains(&(name.as_str(), *pid))), "{left:?}, {both:?}");
        let all = services.processes()?;
        let directory = |name: &str| {
            let found = all.iter().find(|one| left.contains(&(name.to_owned(), one.pid)));
            found.map(|one| one.directory.clone()).context("the process ended meanwhile")
        };
        assert_eq!((directory("child")?, directory("daemon")?), (services.places().home("child"), "/".to_owned()));
        ensure!(services.nothing_is_left().is_err(), "what was left is not seen");
        services.kill_everything()
    })
}

#[test]
fn entries_that_cannot_run_do_not() -> Result<()> {
    let tree = only(Service::new("down").steady().down())
        .with(Service::new("empty").without_run())
        .with(Service::new("broken").broken_link())
        .with(Service::new("sound").steady());
    assert_eq!(tree.starting(), ["sound"]);
    beside(&tree, |services| {
        services.wait_names(&["sound"])?;
        until("supervise to run for the others", || Ok(services.svok("down")? && services.svok("empty")?))?;
        assert!(services.svok("broken").is_err(), "svok cannot know");
        assert!(services.svstat("broken")?.words.starts_with("unable to chdir"));
        assert!(is_down(services, "down")?);
        thread::sleep(Duration::from_secs(2));
        services.wait_names(&["sound"])?;
        services.svc("-u", &["down"])?;
        services.wait_names(&["down", "sound"])?;

        // The directory appears, as when its file system is mounted.
        services.lay_down(&Service::new("broken").items(services.places()))?;
        services.wait_names(&["broken", "down", "sound"])
    })
}

#[test]
fn services_outlive_svscan_and_supervise() -> Result<()> {
    beside(&only(Service::new("a").steady()), |services| {
        let pid = started(services, "a")?;
        services.kill_svscan()?;
        assert!(services.svscan()?.is_none() && services.svok("a")?);
        services.kill_supervise("a")?;
        assert!(!services.svok("a")?);
        assert_eq!(services.running()?, [("a".to_owned(), pid)], "the service did not outlive its supervise");
        assert_eq!(services.process_of("a")?, None);

        // Whoever starts svscan now has the service twice.
        services.start_svscan()?;
        let second = started(services, "a")?;
        assert!(second != pid && services.running()?.len() == 2, "{:?}", services.running()?);
        process::signal(pid, Signal::SIGTERM)?;
        reaped(pid)
    })
}

/// The line that a server says first.
fn banner(port: u16) -> Result<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

#[test]
fn the_standard_tree_runs_listens_and_stops() -> Result<()> {
    let tree = standard_tree(Places::private());
    beside(&tree, |services| {
        services.wait_names(&tree.starting())?;
        until("SMTP to answer", || Ok(banner(SMTP).is_ok_and(|line| line.starts_with("220 "))))?;
        let host = services.command(&["uname", "-n"])?.text()?;
        let expected = |name: &str| format!("220 {} {name}\r\n", host.trim());
        assert_eq!(banner(SMTP)?, expected("ESMTP"));
        assert_eq!(banner(HTTP)?, expected("httpd"));
        until("every logger to run", || {
            let loggers = services
                .processes()?
                .into_iter()
                .filter(|one| one.arguments.first().is_some_and(|word| word == "multilog"));
            Ok(loggers.count() == tree.starting().len() + 1)
        })?;
        services.svc("-dx", &tree.starting())?;
        services.wait_names(&[])?;
        assert!(banner(SMTP).is_err());
        services.kill_everything()?;
        services.nothing_is_left()
    })
}

#[test]
fn hvmail_init_and_greenarrow_status_do_as_they_are_told() -> Result<()> {
    let tree = standard_tree(Places::private());
    beside(&tree, |services| {
        services.wait_names(&tree.starting())?;
        let places = services.places();
        let (init, status) = (places.program("hvmail_init"), places.program("greenarrow_status"));
        let began = Instant::now();
        let said = services.command(&[&init, "stop"])?.text()?;
        assert_eq!(said, "Stopping MTA: 2 messages left ...\nStopping MTA: 1 messages left ...\nMTA stopped\n");
        assert!(began.elapsed() > Duration::from_secs(2));
        let others: Vec<_> = tree.starting().into_iter().filter(|name| !MTA.contains(name)).collect();
        services.wait_names(&others)?;
        services.command(&[&init, "start"])?.text()?;
        services.wait_names(&tree.starting())?;
        assert_eq!(services.command(&[&status, "all_status"])?.text()?, "all services ok\n");
        assert_eq!(services.calls()?, ["hvmail_init stop", "hvmail_init start", "greenarrow_status all_status"]);

        services.lay_down(&[hvmail_init(places, Init::Fails), greenarrow_status(places, Status::Red)])?;
        let failed = services.command(&[&init, "stop"])?.run()?;
        assert_eq!((failed.code(), failed.stderr.lines().count()), (Some(1), 1));
        let red = services.command(&[&status])?.run()?;
        assert_eq!((red.code(), red.stdout.as_str()), (Some(1), "\u{1b}[31mhvmail-httpd: DOWN\u{1b}[0m\n"));
        services.lay_down(&[hvmail_init(places, Init::Hangs), greenarrow_status(places, Status::Hangs)])?;
        for program in [&init, &status] {
            let hung = services.command(&[program, "stop"])?.within(Duration::from_secs(1)).run();
            assert!(hung.is_err_and(|error| error.to_string().contains("not finished")));
        }
        services.wait_names(&tree.starting())
    })
}

#[test]
fn a_node_starts_svscan_at_boot_and_its_services_end_with_its_power() -> Result<()> {
    enter(Isolation::Cluster(&[]), || {
        let tree = standard_tree(Places::greenarrow());
        let cluster = Cluster::builder(1).items(tree.items()).at_boot(&["svscan", &tree.places.scan]).start()?;
        let node = &cluster.nodes[0];
        let services = Supervision::of(node, tree.places.clone());
        services.wait_names(&tree.starting())?;
        until("svstat to know the service", || Ok(services.svstat(ACTIVE[0])?.pid.is_some()))?;

        let watch = PortWatch::start((node.address(), SMTP).into(), Duration::from_millis(20))?;
        let greeted = |since| {
            let answer = || Ok(watch.answered_since(since).map(|(_, banner)| banner));
            wait::until_some("the node's SMTP server to answer", AMPLE, wait::QUICK, answer)
        };
        assert_eq!(greeted(Instant::now())?.0, "220 n1 ESMTP");
        let cut = Instant::now();
        node.power_cut()?;
        assert!(services.names().is_err(), "a node without power has services");
        let off = Instant::now();
        until("the watch to notice", || Ok(watch.refused_since(off)))?;
        node.reboot()?;
        greeted(off)?;
        let outage = watch.outage(cut, Instant::now());
        assert!(outage > off.elapsed() / 2 && outage < cut.elapsed() + Duration::from_millis(500), "{outage:?}");

        services.wait_names(&tree.starting())?;
        until("every service to have been started twice", || {
            Ok(tree.starting().iter().all(|name| services.starts(name).is_ok_and(|starts| starts == 2)))
        })?;
        services.kill_svscan()?;
        services.kill_supervise("hvmail-httpd")?;
        let orphan = services.running()?.into_iter().find(|(name, _)| name == "hvmail-httpd").context("it ended")?.1;
        process::signal(orphan, Signal::SIGKILL)?;
        reaped(orphan)?;
        services.kill_everything()?;
        services.nothing_is_left()
    })
}
