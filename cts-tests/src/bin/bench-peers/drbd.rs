//! ocf:greenarrow:drbd beside ocf:linbit:drbd, in a guest with a real DRBD and in a running cluster: both ask and tell Pacemaker
//! something. The cluster's hands are off meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::vm::drbd::{R0, device, wait_device};
use cts_tests::vm::drbd_pair::{CLONE, Contender, Pair, RESOURCE};
use cts_tests::vm::errand::Errand;
use cts_tests::vm::guest::Guest;
use cts_tests::wait;

use crate::invocation::{Pairs, Started, median, succeeded};
use crate::table::{Goal, Table, ms};

/// Monitors whose processor time is summed up.
const MONITORS: u32 = 5;

/// How many times less processor time a monitor is to take.
const BETTER: f64 = 10.0;

/// How long promote, demote and stop may take, in seconds.
const ACTION: f64 = 0.5;

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    let pair = Pair::start(Contender::Greenarrow)?;
    pair.cluster.maintenance(true)?;
    pair.cluster.wait_idle()?;
    let (primary, secondary) = pair.primary()?;
    for (guest, role, status) in [(primary, "Primary", 8), (secondary, "Secondary", 0)] {
        monitors(table, guest, role, status, rounds).with_context(|| pair.cluster.dump())?;
    }
    pair.cluster.maintenance(false)?;
    actions(table, &pair, rounds).with_context(|| pair.cluster.dump())
}

/// One word of bash before it and an action behind it, in the environment that Pacemaker gives the agent.
fn agent<'guest>(of: Contender, guest: &'guest Guest, script: &str, action: &str) -> Errand<'guest> {
    let path = of.path();
    let errand = guest.command(&["bash", "-c", script, &path, action]).within(Duration::from_secs(300));
    let errand = errand.env("OCF_ROOT", "/usr/lib/ocf").env("OCF_RESOURCE_INSTANCE", RESOURCE);
    let errand = errand.env("OCF_RESOURCE_TYPE", "drbd").env("OCF_RESOURCE_PROVIDER", of.name());
    let errand = errand.env("OCF_RA_VERSION_MAJOR", "1").env("OCF_RA_VERSION_MINOR", "1");
    let errand = errand.env("OCF_RESKEY_drbd_resource", R0.name).env("OCF_RESKEY_crm_feature_set", "3.16.1");
    let meta = [
        ("clone_max", "2"),
        ("clone_node_max", "1"),
        ("promoted_max", "1"),
        ("promoted_node_max", "1"),
        ("master_max", "1"),
        ("master_node_max", "1"),
        ("notify", "true"),
        ("interval", "10000"),
        ("timeout", "60000"),
        ("on_node", guest.name.as_str()),
    ];
    meta.iter().fold(errand, |errand, (name, value)| errand.env(&format!("OCF_RESKEY_CRM_meta_{name}"), value))
}

fn monitors(table: &Table, guest: &Guest, role: &str, status: i32, rounds: usize) -> Result<()> {
    let started = Contender::ALL.map(|of| started(of, guest));
    let [ours, theirs] = started;
    let (ours, theirs) = (ours?, theirs?);
    let shown = |one: Started| format!("{}, {}", one.execs, one.forks);
    // One drbdsetup, which gives way to that of the module's version, and the fork for it.
    let met = ours.execs <= 3 && ours.forks <= 1;
    let what = format!("{role}: programs executed, processes forked");
    table.row(&what, &shown(ours), &shown(theirs), "", "3, 1", Some(met));
    let script = format!(
        "for ((i = 0; i < {MONITORS}; i++)); do \"$0\" \"$1\" </dev/null >/dev/null 2>&1; [ $? = {status} ] || exit 99; done; times"
    );
    let cost = |of| processor_time(&agent(of, guest, &script, "monitor").text()?);
    // The first tells the cluster what the others need not tell.
    Contender::ALL.iter().try_for_each(|of| cost(*of).map(drop))?;
    let pairs = (0..rounds).map(|_| Ok((cost(Contender::Greenarrow)?, cost(Contender::Linbit)?)));
    let Pairs { first, second, ratio } = Pairs::of(&pairs.collect::<Result<Vec<_>>>()?);
    let [ours, theirs] = [first, second].map(|sum| ms(sum / f64::from(MONITORS)));
    table.compare(&format!("{role}: user and system time"), &ours, &theirs, ratio, Goal::Better(BETTER));
    Ok(())
}

/// What a monitor starts; itself is one of the programs.
fn started(of: Contender, guest: &Guest) -> Result<Started> {
    let script = "strace -f -qq -o /run/trace -e trace=execve,execveat,fork,vfork,clone,clone3 \"$0\" \"$1\" </dev/null >/dev/null 2>&1; cat /run/trace";
    // The first may tell the cluster something.
    agent(of, guest, script, "monitor").text()?;
    let trace = agent(of, guest, script, "monitor").text()?;
    let (execs, forks): (Vec<&str>, Vec<&str>) =
        trace.lines().filter(|line| succeeded(line)).partition(|line| line.contains("execve"));
    Ok(Started { execs: execs.len(), forks: forks.iter().filter(|line| !line.contains("CLONE_THREAD")).count() })
}

/// User and system time of the children, the last line of bash's `times`: `0m1.234s 0m0.567s`.
fn processor_time(times: &str) -> Result<Duration> {
    let line = times.trim().lines().last().context("bash told no times")?;
    let seconds = |word: &str| -> Result<f64> {
        let (minutes, seconds) = word.trim_end_matches('s').split_once('m').context("no minutes")?;
        Ok(minutes.parse::<f64>()? * 60.0 + seconds.parse::<f64>()?)
    };
    let sum = line.split_whitespace().map(seconds).sum::<Result<f64>>();
    Ok(Duration::from_secs_f64(sum.with_context(|| format!("bash told {times:?}"))?))
}

/// Start to stop of one instance, its peer connected, by either agent in turn.
fn actions(table: &Table, pair: &Pair, rounds: usize) -> Result<()> {
    for id in ["fs", CLONE] {
        let stopped = ["--meta", "--set-parameter", "target-role", "--parameter-value", "Stopped"];
        pair.cluster.tool(&[&["crm_resource", "--resource", id], &stopped[..]].concat())?;
    }
    let guests = &pair.cluster.nodes;
    let down = || Ok(device(&guests[0], 0)?.is_none() && device(&guests[1], 0)?.is_none());
    wait::until("DRBD to be down", SETTLE, pair.cluster.step, down)?;
    pair.cluster.wait_idle()?;
    pair.cluster.maintenance(true)?;
    guests[1].text(&["drbdadm", "up", R0.name])?;
    let script = "TIMEFORMAT=%R; time \"$0\" \"$1\" </dev/null >/dev/null 2>/run/said || { cat /run/said; exit 99; }";
    let names = ["start", "promote", "demote", "stop"];
    let mut took = [const { [const { Vec::new() }; 4] }; 2];
    for _ in 0..rounds {
        for (of, took) in Contender::ALL.iter().zip(&mut took) {
            for (name, took) in names.iter().zip(took) {
                let output = agent(*of, &guests[0], script, name).run()?;
                ensure!(output.code() == Some(0), "{name} of {of:?}: {}", output.all());
                took.push(output.stderr.trim().parse::<f64>().with_context(|| output.all())?);
                if *name == "start" {
                    wait_device(&guests[0], 0, "in sync", |one| one.disk == "UpToDate" && one.peer_disk == "UpToDate")?;
                }
            }
        }
    }
    let [ours, theirs] = took.map(|took| took.map(|took| median(took.into_iter())));
    for (index, name) in names.iter().enumerate() {
        let (ours, theirs) = (ours[index], theirs[index]);
        let [own, peer] = [ours, theirs].map(|seconds| format!("{seconds:.2} s"));
        let goal = *name != "start";
        let (limit, met) = if goal { (format!("<= {ACTION} s"), Some(ours <= ACTION)) } else { (String::new(), None) };
        let ratio = format!("1/{:.1}", theirs / ours);
        table.row(&format!("{name}, elapsed, no handler running"), &own, &peer, &ratio, &limit, met);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::processor_time;

    #[test]
    fn times_of_bash_are_read() {
        assert_eq!(processor_time("0m0.001s 0m0.002s\n1m2.500s 0m0.250s\n").unwrap().as_millis(), 62_750);
        assert!(processor_time("").is_err() && processor_time("1.0 2.0").is_err());
    }
}
