//! A program run as Pacemaker would run it, and what it cost.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::command::{Command, command};
use cts_tests::installed;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Where strace leaves what it saw; /run is private to the benchmark.
const TRACE: &str = "/run/trace";

/// A program with its arguments and the variables it is told things by.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    argv: Vec<String>,
    variables: Vec<(String, String)>,
    /// The exit status without which a measurement means nothing.
    expected: i32,
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// User and system time of the process and of those that it waited for.
    pub(crate) processor: Duration,
    /// From start to end.
    pub(crate) elapsed: Duration,
}

/// Programs that a run started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) execs: usize,
    pub(crate) forks: usize,
}

impl Invocation {
    /// A program that ends with status 0.
    pub(crate) fn new<const N: usize>(argv: [&str; N]) -> Self {
        Self { argv: argv.map(str::to_owned).into(), variables: Vec::new(), expected: 0 }
    }

    /// With more arguments.
    pub(crate) fn arguments(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.argv.extend(words);
        self
    }

    /// An action of an agent of this workspace with these parameters; a monitor has to find it promoted.
    pub(crate) fn agent(name: &str, action: &str, parameters: &[(&str, &str)]) -> Result<Self> {
        let program = installed::agent(name)?;
        let program = program.to_str().context("the target directory's name is not UTF-8")?;
        let agent = Self::new([program, action]).variable("OCF_RESOURCE_INSTANCE", "measured");
        let agent = agent.variable("OCF_ROOT", "/usr/lib/ocf").expecting(if action == "monitor" { 8 } else { 0 });
        let set = |agent: Self, (name, value): &(&str, &str)| agent.variable(&format!("OCF_RESKEY_{name}"), value);
        Ok(parameters.iter().fold(agent, set))
    }

    /// An action of primary-ips with this list; duplicates are not looked for.
    pub(crate) fn primary_ips(action: &str, ip_file: &str) -> Result<Self> {
        Self::agent("primary-ips", action, &[("ip_file", ip_file), ("duplicate_check", "off")])
    }

    /// The program that does nothing.
    pub(crate) fn hello() -> Result<Self> {
        let program = installed::rig_program("hello")?;
        Ok(Self::new([program.to_str().context("the target directory's name is not UTF-8")?]))
    }

    /// An action of heartbeat:IPaddr2 with one address.
    pub(crate) fn ipaddr2(action: &str, address: &str, prefix: u8) -> Self {
        Self::new(["/usr/lib/ocf/resource.d/heartbeat/IPaddr2", action])
            .variable("OCF_ROOT", "/usr/lib/ocf")
            .variable("OCF_RESOURCE_INSTANCE", &format!("ip-{address}"))
            .variable("OCF_RESKEY_ip", address)
            .variable("OCF_RESKEY_cidr_netmask", &prefix.to_string())
            .variable("OCF_RESKEY_nic", "eth0")
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn expecting(mut self, status: i32) -> Self {
        self.expected = status;
        self
    }

    /// The command line, behind that of a program that runs it.
    fn under(&self, tool: &[&str]) -> Command {
        let begun = command(tool.iter().copied().chain(self.argv.iter().map(String::as_str)));
        let described = self.variables.iter().fold(begun, |command, (name, value)| command.env(name, value));
        described.bare_environment()
    }

    /// Runs it.
    pub(crate) fn cost(&self) -> Result<Cost> {
        let (before, began) = (processor_time()?, Instant::now());
        let status = self.under(&[]).start(Stdio::null())?.wait()?;
        let elapsed = began.elapsed();
        let processor = processor_time()?.saturating_sub(before);
        ensure!(status.code() == Some(self.expected), "{}: {status}, expected {}", self.under(&[]), self.expected);
        Ok(Cost { processor, elapsed })
    }

    /// Runs it under strace and counts what it started.
    pub(crate) fn started(&self) -> Result<Started> {
        let calls = "execve,execveat,fork,vfork,clone,clone3";
        self.under(&["strace", "-f", "-qq", "-o", TRACE, "-e", calls]).run()?;
        let trace = std::fs::read_to_string(TRACE)?;
        let (execs, forks): (Vec<&str>, Vec<&str>) =
            trace.lines().filter(|line| succeeded(line)).partition(|line| line.contains("execve"));
        Ok(Started { execs: execs.len(), forks: forks.iter().filter(|line| !line.contains("CLONE_THREAD")).count() })
    }

    /// Instructions outside the kernel, counted by callgrind; None where valgrind is not installed.
    pub(crate) fn instructions(&self) -> Result<Option<u64>> {
        if !Path::new("/usr/bin/valgrind").exists() {
            return Ok(None);
        }
        let output = self.under(&["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]).run()?;
        let collected = output.stderr.lines().find_map(|line| line.split_once("Collected :"));
        let (_, count) = collected.with_context(|| format!("callgrind counted nothing: {}", output.stderr))?;
        Ok(Some(count.trim().parse()?))
    }
}

/// Whether a call in a line of strace succeeded: `PID call(…) = RESULT`, or `PID <... call resumed>…) = RESULT` for the
/// second half of an interrupted line.
pub(crate) fn succeeded(line: &str) -> bool {
    let result = line.rsplit_once(" = ").and_then(|(_, result)| result.split(' ').next()?.parse::<i64>().ok());
    result.is_some_and(|result| result >= 0)
}

/// User and system time of all children that have ended and were waited for.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = |time: TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let sum = microseconds(usage.user_time()) + microseconds(usage.system_time());
    Ok(Duration::from_micros(sum.try_into()?))
}

/// The medians of two costs and of their ratio.
pub(crate) struct Pairs {
    pub(crate) first: f64,
    pub(crate) second: f64,
    /// The first to the second.
    pub(crate) ratio: f64,
}

impl Pairs {
    /// The processor time of two programs, run in turn.
    pub(crate) fn in_turn(runs: usize, first: &Invocation, second: &Invocation) -> Result<Self> {
        let pair = || Ok((first.cost()?.processor, second.cost()?.processor));
        Ok(Self::of(&(0..runs).map(|_| pair()).collect::<Result<Vec<(Duration, Duration)>>>()?))
    }

    /// From what was measured pair by pair, so that what slows the machine down for a while slows both of a pair.
    pub(crate) fn of(pairs: &[(Duration, Duration)]) -> Self {
        let seconds: Vec<_> = pairs.iter().map(|(first, second)| (first.as_secs_f64(), second.as_secs_f64())).collect();
        Self {
            first: median(seconds.iter().map(|pair| pair.0)),
            second: median(seconds.iter().map(|pair| pair.1)),
            ratio: median(seconds.iter().map(|pair| pair.0 / pair.1)),
        }
    }
}

/// The middle one; of an even number the upper of the two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
