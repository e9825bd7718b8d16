//! Runs the program beside it that has its name and `.measured`, with the same arguments, environment and output, and notes
//! what each monitor took.
//!
//! It stands in an agent's place while a benchmark listens, so that what Pacemaker needs to start any program is not counted.
//! A line of RECORD is the user and system time, in microseconds, of the agent and of all children that it waited for
//! (getrusage(2), RUSAGE_CHILDREN).

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use cts_tests::command::command;
use cts_tests::node::STOPWATCH_RECORD;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os();
    let mut program = words.next().context("the agent's path is argument 0")?;
    program.push(".measured");
    let arguments: Vec<_> = words.collect();
    let status = command([program]).args(&arguments).watched()?;
    if arguments == ["monitor"] {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let took = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        // One write, for monitors may overlap.
        File::options().create(true).append(true).open(STOPWATCH_RECORD)?.write_all(format!("{took}\n").as_bytes())?;
    }
    Ok(ExitCode::from(status.code().and_then(|code| code.try_into().ok()).unwrap_or(1)))
}
