//! The agent as a person uses it: what it says in words, what it complains of, and reload.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use cts_tests::command::command;
use cts_tests::daemontools::{Places, Service};
use cts_tests::disk::Item;
use cts_tests::greenarrow::{Init, Tree, hvmail_init, standard_tree};
use cts_tests::services::{STATE_FILE, beside, by_hand, plain, promotable, sleepers, take_down};
use cts_tests::supervision::{AMPLE, Supervision};
use cts_tests::wait;

const AS_NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

fn two() -> Tree {
    ["hvmail-a", "hvmail-b"].map(Service::new).into_iter().fold(Tree::new(Places::private()), Tree::with)
}

#[test]
fn monitor_says_in_words_what_it_found_when_text_is_asked_for() -> Result<()> {
    beside(&standard_tree(Places::private()).init(Init::Works(0)), |services| {
        let agent = by_hand()?.env("OCF_OUTPUT_FORMAT", "text");
        let says = |status: i32, words: &str| -> Result<()> {
            let answer = agent.exits(status, "monitor")?;
            assert_eq!(answer.stdout, format!("{words}\n"));
            Ok(())
        };
        let down = "normally down: hvmail-dnscache, hvmail-qmail-smtpd3";
        says(7, &format!("stopped: 8 services in /run/service, not started, and none runs; {down}"))?;
        agent.exits(0, "start")?;
        says(0, &format!("unpromoted and ready: 8 services in /run/service, none runs; {down}"))?;
        let promoted = agent.exits(0, "promote")?;
        ensure!(
            promoted.stdout == "promote: done\n" && promoted.stderr.contains("up: 8 services of /run/service"),
            "{promoted:#?}"
        );
        says(8, &format!("promoted: 8 services in /run/service, all run that should; {down}"))?;
        take_down(services, &["hvmail-httpd"])?;
        says(191, "hvmail-httpd was taken down; svc -u brings it up")?;
        // Without a terminal and unasked it is silent, as Pacemaker wants it.
        let answer = by_hand()?.exits(191, "monitor")?;
        ensure!(answer.stdout.is_empty(), "{answer:#?}");
        let plain = plain()?.env("OCF_OUTPUT_FORMAT", "text");
        plain.exits(0, "start")?;
        let answer = plain.exits(0, "monitor")?;
        ensure!(answer.stdout.starts_with("active: 8 services in /run/service, all run that should"), "{answer:#?}");
        Ok(())
    })
}

#[test]
fn who_is_not_root_is_told_so_and_changes_nothing() -> Result<()> {
    beside(&two(), |services| {
        let agent = by_hand()?;
        for action in
            ["start", "stop", "promote", "demote", "monitor", "reload", "reload-agent", "notify", "validate-all"]
        {
            let output = agent.command(AS_NOBODY, action).run()?;
            ensure!(output.code() == Some(4), "{action} as nobody: {output:#?}");
            let words = format!("ocf-exit-reason:{action} needs root: it is run by user 65534");
            ensure!(output.stderr.trim() == words, "{action} as nobody: {output:#?}");
        }
        let nobody = [AS_NOBODY, &["env", "-i"]].concat();
        let output = command(&nobody).arg(agent.program()).arg("meta-data").run()?;
        ensure!(output.code() == Some(0) && output.stderr.is_empty(), "{output:#?}");
        ensure!(!Path::new(STATE_FILE).exists() && services.processes()?.is_empty());
        Ok(())
    })
}

#[test]
fn validate_all_complains_of_parameters_at_level_0_and_of_the_node_at_10() -> Result<()> {
    let broken = Service::new("hvmail-broken").broken_link();
    beside(&two().with(broken).init(Init::Works(0)), |services| {
        let places = services.places();
        let agent = by_hand()?;
        agent.exits(0, "validate-all")?.without_reason()?;
        let superficial = agent.clone().env("OCF_CHECK_LEVEL", "0").set("service_dir", "/no/such/directory");
        let output = superficial.command(AS_NOBODY, "validate-all").run()?;
        ensure!(output.code() == Some(0), "{output:#?}");
        for (name, value, expected) in [
            ("settle_time", "soon", ""),
            ("stop_escalation", "1s 2s 3s 4s", "one to three times"),
            ("check_ports", "25", "192.0.2.1:25"),
            ("svscan", "--now", "systemd unit"),
            ("pattern", "/service/hvmail-*", "names have no slash"),
            ("reload_mta", "perhaps", "hup"),
            ("boot_guard", "maybe", ""),
            ("service_dir", "relative", ""),
        ] {
            superficial.clone().set(name, value).exits(6, "validate-all")?.says(&[name, value, expected])?;
        }

        let missing = agent.clone().set("service_dir", "/no/such/directory");
        missing.exits(5, "validate-all")?.says(&["/no/such/directory does not exist: is GreenArrow installed"])?;
        agent.clone().set("svscan", "none").exits(1, "validate-all")?.says(&["no svscan runs in /run/service"])?;
        fs::set_permissions(format!("{}/run", places.home("hvmail-a")), Permissions::from_mode(0o644))?;
        fs::remove_file(format!("{}/run", places.home("hvmail-b")))?;
        fs::set_permissions(places.program("hvmail_init"), Permissions::from_mode(0o775))?;
        services.lay_down(&[Item::file(places.program("greenarrow_status"), "")])?;
        agent.exits(1, "validate-all")?.says(&[
            "/run/service/hvmail-a/run is not executable: chmod 755 it",
            "/run/service/hvmail-b/run is missing",
            "hvmail_init is not run: others than root may write it (owner 0, mode 775); chown root and chmod go-w it",
            "greenarrow_status is not an executable file",
        ])?;
        agent.set("service_dir", "/run/elsewhere").exits(5, "validate-all")?;
        // Where the whole scan directory moves with the Primary, that it is not here is as it should be.
        services.lay_down(&[Item::link("/run/elsewhere", "/run/mnt/service")])?;
        let away =
            by_hand()?.set("service_dir", "/run/elsewhere").set("mta_control", "/none").set("status_command", "/none");
        let answer = away.exits(0, "validate-all")?.without_reason()?;
        ensure!(answer.stderr.contains("Where it moves with the Primary that is as it should be"), "{answer:#?}");
        Ok(())
    })
}

/// Writes a line for each SIGHUP, as qmail-send reads its configuration anew.
const HEEDFUL: &str = "#!/usr/bin/perl\n$SIG{HUP} = sub { open my $file, '>>', 'heard'; print $file \"hup\\n\"; };\n\
                       open my $file, '>', 'ready'; close $file;\nsleep 3600 while 1;\n";

#[test]
fn reload_tells_the_mta_as_it_is_told_and_nobody_who_would_die_of_it() -> Result<()> {
    let tree = two().with(Service::new("hvmail-qmail-send")).with(Service::new("hvmail-qmail-send2"));
    beside(&tree, |services| {
        let (places, home) = (services.places(), services.places().home("hvmail-qmail-send"));
        services.lay_down(&[Item::program(format!("{home}/run"), HEEDFUL), hvmail_init(places, Init::Works(0))])?;
        let heard = || services.read(&format!("{home}/heard"));
        let agent = promotable()?;
        agent.exits(0, "reload")?.logs(&["not started; there is nothing to reload"])?;
        agent.succeeds(&["start", "reload", "promote"])?;
        wait::until("the handler", AMPLE, wait::QUICK, || Ok(fs::exists(format!("{home}/ready"))?))?;
        let before = services.running()?;
        agent.exits(0, "reload")?.without_reason()?.logs(&[
            "INFO: hvmail-qmail-send: process ",
            "was told by SIGHUP",
            "WARNING: hvmail-qmail-send2: process ",
            "does not catch SIGHUP, which would end it; it was not told",
        ])?;
        wait::until("the signal", AMPLE, wait::QUICK, || Ok(heard()? == "hup\n"))?;
        agent.exits(0, "reload-agent")?.without_reason()?;
        agent.clone().set("reload_mta", "none").exits(0, "reload")?.without_reason()?;
        agent.clone().set("mta_services", "hvmail-a").exits(0, "reload")?.logs(&["hvmail-a: process "])?;
        assert_eq!((heard()?.as_str(), services.running()?), ("hup\n", before));
        assert_eq!(services.calls()?, ["hvmail_init start"]);

        agent.clone().set("reload_mta", "restart").exits(0, "reload")?.logs(&["hvmail_init restart: MTA started"])?;
        assert_eq!(services.calls()?, ["hvmail_init start", "hvmail_init restart"]);
        let gone = agent.set("reload_mta", "restart").set("mta_control", "/none");
        gone.exits(0, "reload")?.logs(&["/none is not there; the MTA was not told"])?;
        Ok(())
    })
}

#[test]
fn a_reload_takes_up_what_changed_and_with_wrong_parameters_nothing() -> Result<()> {
    beside(&two(), |services| {
        for (agent, status) in [(promotable()?, 8), (plain()?, 0)] {
            let narrow = agent.clone().set("expected_down", "hvmail-b");
            narrow.succeeds(&["start", "promote"])?;
            assert_eq!(services.names()?, ["hvmail-a"]);
            for (name, value) in [("settle_time", "soon"), ("expected_down", "/x")] {
                let wrong = agent.clone().set(name, value);
                // Pacemaker calls the latter by itself, when somebody has just mistyped a parameter of what runs.
                wrong.exits(6, "reload")?.says(&[name, value])?;
                wrong.exits(0, "reload-agent")?.logs(&["ERROR", name, value, "nothing was changed"])?;
                assert_eq!(services.names()?, ["hvmail-a"]);
            }
            narrow.exits(status, "monitor")?.without_reason()?;
            agent.exits(0, "reload-agent")?.without_reason()?.logs(&["brought up: hvmail-b"])?;
            // supervise has told of the process; that it has come to exec is seen a moment later.
            services.wait_names(&["hvmail-a", "hvmail-b"])?;
            agent.exits(status, "monitor")?.without_reason()?;
            agent.succeeds(&["stop"])?;
        }
        assert_eq!(services.starts("hvmail-a")?, 2);
        Ok(())
    })
}

/// So many bytes that are different each time this is called with another seed (xorshift).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn write_status(services: &Supervision, bytes: &[u8]) -> Result<()> {
    Ok(fs::write(format!("{}/supervise/status", services.places().home("hvmail-b")), bytes)?)
}

#[test]
fn whatever_stands_in_a_status_file_the_agent_gives_a_reason_and_stops() -> Result<()> {
    beside(&two(), |services| {
        let agent = promotable()?;
        agent.succeeds(&["start", "promote"])?;
        for seed in 0..40_usize {
            let length = if seed < 20 { 18 } else { seed % 25 };
            let mut bytes = noise(seed as u64, length);
            // Half of them are right where a wrong byte would be the end of the reading.
            if let (true, Some(want)) = (seed % 2 == 0, bytes.get_mut(17)) {
                *want = b'u';
            }
            write_status(services, &bytes)?;
            let answer = agent.run("monitor")?;
            let sound = [191, 9].contains(&answer.status) && answer.reason.contains("hvmail-b");
            ensure!(sound && !answer.reason.contains("is broken and gave up"), "{bytes:x?}: {answer:#?}");
        }
        agent.exits(0, "stop")?.without_reason()?;
        ensure!(sleepers()?.is_empty(), "a stop has left {:?}", services.running()?);
        Ok(())
    })
}
