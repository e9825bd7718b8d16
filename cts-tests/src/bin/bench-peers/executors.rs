//! What the executors of the nodes have run: the processor time of it, and the programs started by a monitor.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::command::command;
use cts_tests::node::{Node, STOPWATCH_RECORD};
use cts_tests::{installed, process};
use nix::sys::signal::Signal;
use nix::unistd::{SysconfVar, sysconf};

use crate::invocation::{Started, median, succeeded};

/// How long the processor time of the monitors is summed up.
const STEADY: Duration = Duration::from_secs(60);

/// How long the programs that monitors start are listened to: several monitors, with strace beside them.
const TRACED: Duration = Duration::from_secs(20);

/// Where strace leaves what it saw.
const TRACE: &str = "/var/local/trace";

/// User and system time in a minute of everything that pacemaker-execd of these nodes ran and waited for, in seconds.
pub(crate) fn processor_time_a_minute<'nodes>(nodes: impl IntoIterator<Item = &'nodes Node>) -> Result<Vec<f64>> {
    let executors = nodes.into_iter().map(executor).collect::<Result<Vec<u32>>>()?;
    let now = || executors.iter().map(|pid| reaped_ticks(*pid)).collect::<Result<Vec<u32>>>();
    let (before, began) = (now()?, Instant::now());
    std::thread::sleep(STEADY);
    let after = now()?;
    let tick = sysconf(SysconfVar::CLK_TCK)?.context("sysconf(3) knows no CLK_TCK")?;
    let a_second = f64::from(i32::try_from(tick)?);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    Ok(before.iter().zip(after).map(|(before, after)| f64::from(after - before) / a_second / minutes).collect())
}

/// User and system time of one monitor by the agent at `path`, with all that it starts, in seconds: the median on each of these
/// nodes. A stopwatch stands in the agent's place for that long.
pub(crate) fn processor_time_of_monitors<'nodes>(
    nodes: impl IntoIterator<Item = &'nodes Node> + Clone,
    path: &str,
) -> Result<Vec<f64>> {
    let measured = format!("{path}.measured");
    for node in nodes.clone() {
        node.text(&["cp", "--preserve=all", path, &measured])?;
        let beside = format!("{path}.new");
        node.install(&installed::rig_program("rig-stopwatch")?, &beside, 0o755)?;
        node.text(&["mv", &beside, path])?;
    }
    std::thread::sleep(STEADY);
    let taken = nodes.into_iter().map(|node| {
        node.text(&["cp", "--preserve=all", &measured, &format!("{path}.new")])?;
        node.text(&["mv", &format!("{path}.new"), path])?;
        let lines = node.text(&["cat", STOPWATCH_RECORD])?;
        let seconds: Vec<f64> = lines.lines().map(|line| Ok(line.parse::<f64>()? / 1e6)).collect::<Result<_>>()?;
        ensure!(seconds.len() > 5, "{} monitors in {STEADY:?} on {}", seconds.len(), node.name);
        Ok(median(seconds.into_iter()))
    });
    taken.collect()
}

fn executor(node: &Node) -> Result<u32> {
    let found = node.processes(|argv| argv.first().is_some_and(|path| path.ends_with("pacemaker-execd")))?;
    found.first().copied().with_context(|| format!("no pacemaker-execd on {}", node.name))
}

/// Fields 16 and 17 of proc_pid_stat(5), cutime and cstime. The name in parentheses may hold anything, so what follows
/// is found from behind.
fn reaped_ticks(pid: u32) -> Result<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
    fields.split(' ').skip(13).take(2).map(|field| Ok(field.parse::<u32>()?)).sum()
}

/// What a monitor by the agent at `path` starts on a node, itself not counted: the median of those of a while.
pub(crate) fn started_by_a_monitor(node: &Node, path: &str) -> Result<Started> {
    let executor = executor(node)?.to_string();
    let calls = "trace=execve,execveat,fork,vfork,clone,clone3";
    let strace = ["strace", "-f", "-qq", "-o", TRACE, "-e", calls, "-p", &executor];
    let mut strace = command(strace).start(Stdio::null())?;
    std::thread::sleep(TRACED);
    ensure!(strace.is_running(), "strace of pacemaker-execd ended by itself");
    process::signal(strace.pid(), Signal::SIGINT)?;
    strace.wait()?;
    let monitors = monitors(&std::fs::read_to_string(TRACE)?, &executor, path);
    ensure!(monitors.len() > 1, "strace saw {} whole monitors in {TRACED:?}", monitors.len());
    let middle = |counts: Vec<usize>| -> Result<usize> {
        let counts = counts.into_iter().map(u32::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{:.0}", median(counts.into_iter().map(f64::from))).parse()?)
    };
    Ok(Started {
        execs: middle(monitors.iter().map(|one| one.execs).collect())?,
        forks: middle(monitors.iter().map(|one| one.forks).collect())?,
    })
}

/// The monitors in a trace, in lines of `PID call(…) = RESULT`, or `PID call(… <unfinished ...>` and later `PID <... call
/// resumed>…) = RESULT`. One begins where the agent is executed and ends where the next one begins, for a resource's
/// monitors follow one another; the last may have been cut off and is left out.
fn monitors(trace: &str, executor: &str, path: &str) -> Vec<Started> {
    let begins = format!("execve(\"{path}\", [");
    let (mut found, mut beginning) = (Vec::<Started>::new(), None);
    for line in trace.lines() {
        let pid = line.split(' ').next().unwrap_or_default();
        if line.contains(&begins) && line.contains(", \"monitor\"]") {
            beginning = line.ends_with("<unfinished ...>").then_some(pid);
            found.push(Started { execs: 0, forks: 0 });
            continue;
        }
        if pid == executor || !succeeded(line) || line.contains("CLONE_THREAD") {
            continue;
        }
        let Some(monitor) = found.last_mut() else { continue };
        match line.contains("execve") {
            true if beginning == Some(pid) => beginning = None,
            true => monitor.execs += 1,
            false => monitor.forks += 1,
        }
    }
    found.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::{Started, monitors};

    #[test]
    fn what_a_monitor_starts_between_others() {
        let trace = "\
70 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 41
91 execve(\"/usr/bin/other\", [\"other\"], 0x5 /* 40 vars */) = 0
92 execve(\"/a/agent\", [\"/a/very/long/path/of/an/agent/tha\"..., \"monitor\"], 0x5 /* 40 vars */ <unfinished ...>
70 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 42
92 <... execve resumed>)                    = 0
92 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>
92 <... clone resumed>, child_tidptr=0x7f) = 43
93 execve(\"/sbin/psql\", [\"psql\"], 0x5 /* 40 vars */) = -1 ENOENT (No such file or directory)
93 execve(\"/bin/psql\", [\"psql\"], 0x5 /* 40 vars */) = 0
93 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 44
94 execve(\"/a/agent\", [\"/a/agent\", \"monitor\"], 0x5 /* 40 vars */) = 0
94 vfork() = 45
95 execve(\"/a/agent\", [\"/a/agent\", \"monitor\"], 0x5 /* 40 vars */) = 0
";
        assert_eq!(monitors(trace, "70", "/a/agent"), [(1, 1), (0, 1)].map(|(execs, forks)| Started { execs, forks }));
    }
}
