//! The agent as a program: run by hand, by nobody, twice at once, traced, and with nowhere to print to.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::addresses::{INSTANCE, IP_FILE, STATE_FILE, holds, in_private_network, line_of, list};
use cts_tests::agent::{Agent, LOG_FILE};
use cts_tests::command::{Output, Running, command};
use cts_tests::other_host::{FIXED, OtherHost};
use cts_tests::xml::Element;
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

const LINES: &[&str] = &["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"];
const UP: &[&str] = &["192.0.2.10/24 eth0", "192.0.2.11/24 eth0", "2001:db8::10/64 eth0"];
const AS_NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const AMPLE: Duration = Duration::from_secs(20);

/// A promote that is in the middle of its duplicate check and goes no further.
fn suspended_promote(agent: &Agent) -> Result<Running> {
    let promote = agent.begin("promote")?;
    let tentative = || Ok(line_of("2001:db8::10").is_ok_and(|line| line.contains("tentative")));
    wait::until("promote to add its addresses", AMPLE, wait::QUICK, tentative)?;
    process::signal(promote.pid(), Signal::SIGSTOP)?;
    Ok(promote)
}

fn code(output: &Output) -> Result<i32> {
    output.code().with_context(|| format!("ended by {}", output.status))
}

#[test]
fn two_promotes_at_once_do_it_once_and_both_succeed() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?;
        agent.succeeds(&["start"])?;
        let mut both = [agent.begin("promote")?, agent.begin("promote")?];
        for promote in &mut both {
            ensure!(promote.wait()?.success());
        }
        holds(FIXED, UP)?;
        let log = fs::read_to_string(LOG_FILE)?;
        ensure!(log.matches("3 addresses are up: 3 addresses added").count() == 1, "{log}");
        ensure!(log.matches("3 addresses are up: nothing had to be changed").count() == 1, "{log}");
        Ok(())
    })
}

#[test]
fn an_action_that_finds_another_one_stuck_ends_in_time_and_names_it() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?;
        agent.succeeds(&["start"])?;
        let promote = suspended_promote(&agent)?;
        let hurried = agent.clone().within(Duration::from_secs(2));
        for action in ["promote", "demote", "reload", "start"] {
            let began = Instant::now();
            let holder = format!("process {} (promote) holds the lock", promote.pid());
            hurried.exits(1, action)?.says(&[&holder])?;
            ensure!(began.elapsed() < Duration::from_secs(2), "{action} would have been killed by Pacemaker");
        }
        process::signal(promote.pid(), Signal::SIGCONT)?;
        let mut promote = promote;
        ensure!(promote.wait()?.success());
        agent.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_stop_ends_a_promote_that_somebody_left_suspended() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.within(Duration::from_secs(6));
        agent.succeeds(&["start"])?;
        let mut promote = suspended_promote(&agent)?;
        agent.exits(0, "stop")?.without_reason()?;
        holds(FIXED, &[])?;
        ensure!(!promote.is_running(), "the suspended promote is still there and would add its addresses some day");
        agent.exits(7, "monitor")?;
        Ok(())
    })
}

#[test]
fn a_stop_does_not_end_a_stranger_that_holds_its_lock() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.set("duplicate_check", "off").within(Duration::from_secs(3));
        agent.succeeds(&["start", "promote"])?;
        let lock = STATE_FILE.replace(".state", ".lock");
        let mut stranger = command(["flock", &lock, "sleep", "60"]).start(std::process::Stdio::inherit())?;
        wait::until("the lock", AMPLE, wait::QUICK, || {
            Ok(fs::read_to_string("/proc/locks")?.contains(&format!(" {} ", stranger.pid())))
        })?;
        fs::write(&lock, format!("{} promote", stranger.pid()))?;
        agent.exits(0, "stop")?.logs(&["WARNING", "stopping without it"])?;
        holds(FIXED, &[])?;
        ensure!(stranger.is_running(), "stop killed a process that is not this agent");
        Ok(())
    })
}

#[test]
fn who_is_not_root_is_told_so_and_changes_nothing() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::by_hand()?;
        for action in
            ["start", "stop", "promote", "demote", "monitor", "reload", "reload-agent", "notify", "validate-all"]
        {
            let output = agent.command(AS_NOBODY, action).run()?;
            ensure!(code(&output)? == 4, "{action} as nobody: {output:#?}");
            let words = format!("ocf-exit-reason:{action} needs root: it is run by user 65534");
            ensure!(output.stderr.trim() == words, "{action} as nobody: {output:#?}");
        }
        ensure!(!Path::new(STATE_FILE).exists());
        holds(FIXED, &[])
    })
}

#[test]
fn an_unknown_action_is_exit_3_and_no_action_exit_2() -> Result<()> {
    in_private_network(|| {
        let agent = Agent::by_hand()?;
        for action in ["migrate_to", "status", "Start", "", "--frobnicate", "monitor "] {
            agent.exits(3, action)?.says(&["is not an action of primary-ips"])?;
        }
        let output = command([agent.program()]).bare_environment().run()?;
        ensure!(code(&output)? == 2 && output.stderr.contains("no action was given"), "{output:#?}");
        Ok(())
    })
}

#[test]
fn wrong_parameters_are_exit_6_with_name_value_and_what_is_expected() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        for (name, value, expected) in [
            ("duplicate_check", "perhaps", "fail"),
            ("announce_count", "many", "0"),
            ("announce_count", "101", "100"),
            ("announce_interval", "fast", ""),
            ("noprefixroute", "2", ""),
            ("ip_file", "relative/path", ""),
        ] {
            for agent in [Agent::promotable()?, Agent::plain()?] {
                agent.set(name, value).exits(6, "start")?.says(&[name, value, expected])?;
            }
        }
        holds(FIXED, &[])
    })
}

#[test]
fn a_wrong_parameter_of_a_running_instance_degrades_it_and_changes_nothing() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        for (agent, status) in [(Agent::promotable()?, 191), (Agent::plain()?, 190)] {
            let agent = agent.set("duplicate_check", "off");
            agent.succeeds(&["start", "promote"])?;
            for (name, value) in [("announce_count", "many"), ("ip_file", "relative/path"), ("preferred_lft", "soon")] {
                let wrong = agent.clone().set(name, value);
                // 6 would make Pacemaker take the resource from every node.
                wrong.exits(status, "monitor")?.says(&[name, value])?;
                wrong.exits(0, "reload-agent")?.logs(&["ERROR", name, value])?;
                holds(FIXED, UP)?;
            }
            agent.set("ip_file", "relative/path").succeeds(&["stop"])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn meta_data_needs_no_root_no_environment_and_no_file() -> Result<()> {
    in_private_network(|| {
        let agent = Agent::by_hand()?;
        let nobody = [AS_NOBODY, &["env", "-i"]].concat();
        let output = command(&nobody).arg(agent.program()).arg("meta-data").run()?;
        ensure!(code(&output)? == 0 && output.stderr.is_empty(), "{output:#?}");
        let root = Element::parse(&output.stdout)?;
        ensure!(root.name == "resource-agent" && root.get("name") == "primary-ips", "{root:#?}");
        let names: Vec<_> = root.all("parameter").into_iter().map(|parameter| parameter.get("name")).collect();
        ensure!(names.contains(&"ip_file") && names.contains(&"check_link"), "{names:?}");
        Ok(())
    })
}

#[test]
fn validate_all_looks_at_the_node_at_check_level_10_and_as_nobody_at_level_0() -> Result<()> {
    in_private_network(|| {
        let agent = Agent::by_hand()?;
        agent.exits(2, "validate-all")?.says(&[IP_FILE, "No such file"])?;
        let superficial = agent.env("OCF_CHECK_LEVEL", "0");
        superficial.exits(0, "validate-all")?.without_reason()?;
        let output = superficial.command(AS_NOBODY, "validate-all").run()?;
        ensure!(code(&output)? == 0, "{output:#?}");
        superficial.set("on_drift", "hope").exits(6, "validate-all")?.says(&["on_drift", "hope"])?;
        Ok(())
    })
}

#[test]
fn parameters_can_be_given_on_the_command_line_and_other_words_are_ignored() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        fs::write("/run/elsewhere", "192.0.2.77/24\n")?;
        let agent = Agent::by_hand()?;
        for (action, held) in [("start", &[][..]), ("promote", &["192.0.2.77/24 eth0"]), ("stop", &[])] {
            let words = ["nonsense", "--frobnicate", "-o", "ip_file=/run/elsewhere", "-o", "announce_count=1"];
            let words: &[&str] =
                if action == "stop" { &[] } else { &[words[2], words[3], words[4], words[5], words[0]] };
            let output = agent.command(&[], action).args(words).run()?;
            ensure!(code(&output)? == 0, "{action}: {output:#?}");
            holds(FIXED, held)?;
        }
        Ok(())
    })
}

#[test]
fn monitor_says_in_words_what_it_found_when_text_is_asked_for() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::by_hand()?.set("duplicate_check", "off").env("OCF_OUTPUT_FORMAT", "text");
        let says = |status: i32, words: &str| -> Result<()> {
            let answer = agent.exits(status, "monitor")?;
            ensure!(answer.stdout.starts_with(words) && answer.stdout.ends_with('\n'), "{answer:#?}");
            ensure!(answer.stdout.lines().count() == 1, "{answer:#?}");
            Ok(())
        };
        says(7, "stopped: none of the addresses of /run/primary_ips is up")?;
        agent.succeeds(&["start"])?;
        says(0, "unpromoted and ready: 2 IPv4 and 1 IPv6 addresses of /run/primary_ips would come up on eth0")?;
        let promoted = agent.exits(0, "promote")?;
        ensure!(
            promoted.stdout == "promote: done\n" && promoted.stderr.contains("INFO: 3 addresses are up"),
            "{promoted:#?}"
        );
        says(8, "promoted: 2 IPv4 and 1 IPv6 addresses of /run/primary_ips are up on eth0")?;
        list(&["nonsense"])?;
        says(191, "/run/primary_ips: line 1: \"nonsense\"")?;
        // Without a terminal and unasked it is silent, as Pacemaker wants it.
        let answer = Agent::by_hand()?.exits(191, "monitor")?;
        ensure!(answer.stdout.is_empty(), "{answer:#?}");
        Ok(())
    })
}

#[test]
fn a_closed_standard_output_or_a_full_disk_behind_it_changes_no_result() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::by_hand()?.set("duplicate_check", "off").env("OCF_OUTPUT_FORMAT", "text");
        agent.succeeds(&["start", "promote"])?;
        // The shell closes what the agent prints to: that is the subject here.
        for script in [
            "exec \"$0\" monitor >&-",
            "exec \"$0\" monitor >&- 2>&-",
            "exec \"$0\" monitor >/dev/full 2>/dev/full",
            "exec \"$0\" monitor 0<&- >&- 2>&-",
        ] {
            let output = agent.command(&["sh", "-c", script], "monitor").run()?;
            ensure!(code(&output)? == 8, "{script}: {output:#?}");
        }
        let script = "(\"$0\" meta-data; echo $? >/run/status) | true";
        agent.command(&["sh", "-c", script], "meta-data").run()?;
        let status = fs::read_to_string("/run/status")?;
        ensure!(status == "0\n", "meta-data into a closed pipe ended with {status}");
        Ok(())
    })
}

#[test]
fn trace_ra_writes_each_step_with_its_time_where_it_is_told_or_where_the_others_do() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        // The place where resource-agents puts its traces belongs to the host: a private one goes over it.
        command(["mount", "-t", "tmpfs", "none", "/var/lib"]).text()?;
        let agent = Agent::promotable()?.set("trace_ra", "1");
        agent.succeeds(&["start", "promote"])?;
        let directory = Path::new("/var/lib/heartbeat/trace_ra/primary-ips");
        let mut names: Vec<_> = fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
            .collect::<Result<_>>()?;
        names.sort();
        let promote = names.iter().find(|name| name.starts_with(&format!("{INSTANCE}.promote.")));
        let text =
            fs::read_to_string(directory.join(promote.with_context(|| format!("no trace of promote: {names:?}"))?))?;
        for step in ["3 addresses asked about, 0 duplicates", "3 addresses added", "announced", "promote ends with 0"] {
            ensure!(text.contains(step), "the trace lacks {step:?}: {text}");
        }
        let timed = |line: &str| {
            line.starts_with("+ ") && line.as_bytes().get(4) == Some(&b':') && line.as_bytes().get(10) == Some(&b'.')
        };
        ensure!(text.lines().all(timed), "a step has no time: {text}");
        let told = agent.set("trace_file", "/run/traced");
        told.exits(8, "monitor")?;
        ensure!(fs::read_to_string("/run/traced")?.contains("monitor ends with 8"));
        Ok(())
    })
}

#[test]
fn the_log_goes_where_pacemaker_says_and_to_a_person_by_hand() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.set("duplicate_check", "off");
        agent.succeeds(&["start"])?;
        let promoted = agent.exits(0, "promote")?;
        ensure!(promoted.stderr.is_empty(), "Pacemaker would log this a second time: {promoted:#?}");
        let line = promoted.log.lines().last().unwrap_or_default().to_owned();
        let head = format!("primary-ips({INSTANCE})[");
        ensure!(line.starts_with(&head) && line.contains("INFO: 3 addresses are up: 3 addresses added"), "{line}");
        let quiet = agent.clone().env("HA_LOGFILE", "none");
        ensure!(quiet.exits(0, "demote")?.log.is_empty());
        let elsewhere = agent.clone().env("HA_LOGFILE", "/no/such/directory/log");
        elsewhere.exits(0, "promote")?.without_reason()?;
        let debug = agent.env("HA_DEBUGLOG", "/run/debug.log").env("HA_debug", "1");
        debug.exits(0, "stop")?;
        ensure!(fs::read_to_string("/run/debug.log")?.contains("3 addresses were taken away"));
        let by_hand = Agent::by_hand()?.exits(0, "stop")?;
        ensure!(by_hand.stderr.contains("INFO: 0 addresses were taken away"), "{by_hand:#?}");
        Ok(())
    })
}

/// How many times each of these system calls was made, forks and all.
fn traced(agent: &Agent, status: i32, action: &str) -> Result<String> {
    let file = "/run/strace";
    let tracer = ["strace", "-f", "-qq", "-e", "trace=execve,execveat,clone,clone3,fork,vfork", "-o", file];
    let output = agent.command(&tracer, action).run()?;
    ensure!(code(&output)? == status, "{action} under strace: {output:#?}");
    Ok(fs::read_to_string(file)?)
}

#[test]
fn a_monitor_is_one_exec_and_no_fork_in_every_state() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let alone = |agent: &Agent, status: i32| -> Result<()> {
            let calls = traced(agent, status, "monitor")?;
            let execs = calls.lines().filter(|line| line.contains("execve(")).count();
            ensure!(
                execs == 1 && calls.lines().count() == 1,
                "a monitor that ends with {status} made these calls: {calls}"
            );
            Ok(())
        };
        for agent in [Agent::by_hand()?, Agent::promotable()?] {
            let agent = agent.set("duplicate_check", "off");
            alone(&agent, 7)?;
            agent.succeeds(&["start"])?;
            // Under Pacemaker, the first one asks what the others' lists are, and the next ones of a minute do not.
            agent.exits(0, "monitor")?;
            alone(&agent, 0)?;
            agent.succeeds(&["promote"])?;
            alone(&agent, 8)?;
            alone(&agent.clone().env("OCF_CHECK_LEVEL", "10"), 8)?;
            agent.succeeds(&["stop"])?;
        }
        Ok(())
    })
}

#[test]
fn help_and_version_are_for_everybody() -> Result<()> {
    in_private_network(|| {
        let agent = Agent::by_hand()?;
        for (option, words) in [("--help", "NAME=VALUE"), ("--version", "primary-ips "), ("--manual", ".TH")] {
            let output = command(AS_NOBODY).arg(agent.program()).arg(option).bare_environment().run()?;
            ensure!(code(&output)? == 0 && output.stdout.contains(words) && output.stderr.is_empty(), "{output:#?}");
        }
        // Nobody waits for a terminal here, and nothing of it was an action.
        thread::sleep(Duration::from_millis(20));
        ensure!(!Path::new(STATE_FILE).exists());
        Ok(())
    })
}
