//! The scenarios of a PostgreSQL pair, played with this project's agent and with its peers: `cargo compare-postgresql`.
//!
//! A comparison, not a test: what a peer does otherwise is shown, and changes nothing. What does fail is a cluster that
//! could not be set up, and a scenario that this project's own agent did not pass: then the scenario proves nothing of
//! the others either.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Arg, ArgAction, Command};
use cts_tests::command::command;
use cts_tests::contender::Contender;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::packages;
use cts_tests::postgres::{self, USUAL};
use cts_tests::postgres_pair::Pair;
use cts_tests::postgres_scenarios::ALL;

/// The exit status of a scenario that the agent did not pass.
const NOT_PASSED: i32 = 10;

fn main() -> Result<()> {
    let arguments = interface().get_matches();
    if let Some(mut one) = arguments.get_many::<String>("play") {
        let (agent, name) = (one.next().context("an agent")?, one.next().context("a scenario")?);
        return enter(Isolation::Cluster(&["postgresql", "primary-ips"]), || play(agent, name));
    }
    packages::require(packages::CLUSTER)?;
    packages::require(packages::PEERS)?;
    postgres::tree(USUAL)?;
    let chosen: Vec<&String> = arguments.get_many("scenario").map(Iterator::collect).unwrap_or_default();
    let agents: Vec<&String> = arguments.get_many("agent").map(Iterator::collect).unwrap_or_default();
    let mut unsound = Vec::new();
    for (name, _) in ALL.iter().filter(|(name, _)| chosen.is_empty() || chosen.iter().any(|one| one == name)) {
        println!("{name}");
        for contender in Contender::ALL {
            if !agents.is_empty() && !agents.iter().any(|one| *one == contender.name()) {
                continue;
            }
            // Each in a process and a cluster of its own: nothing that one leaves behind can harm the next.
            let again = command([std::env::current_exe()?]).args(["--play", contender.name(), name]);
            let status = again.watched()?;
            let passed = status.success();
            let of_the_agent = status.code() == Some(NOT_PASSED);
            ensure!(passed || of_the_agent, "`{name}` could not be played with {} ({status})", contender.name());
            if contender == Contender::Greenarrow && !passed {
                unsound.push(*name);
            }
        }
    }
    ensure!(unsound.is_empty(), "not passed by postgresql itself: {}", unsound.join(", "));
    Ok(())
}

fn interface() -> Command {
    let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
    let agents = Contender::ALL.map(Contender::name);
    let scenario = Arg::new("scenario").value_name("SCENARIO").action(ArgAction::Append).value_parser(names);
    let agent = Arg::new("agent").long("agent").value_name("NAME").action(ArgAction::Append).value_parser(agents);
    Command::new("cargo compare-postgresql")
        .about("Plays what can happen to a PostgreSQL pair with this agent, PAF and heartbeat:pgsql")
        .arg(scenario.help("Play these only"))
        .arg(agent.help("With this agent only; may be given more than once"))
        .arg(Arg::new("play").long("play").num_args(2).hide(true))
}

/// Plays one scenario with one agent, and says in a line how it ended.
fn play(agent: &str, name: &str) -> Result<()> {
    postgres::put_in_place(USUAL)?;
    let contender = Contender::ALL.into_iter().find(|one| one.name() == agent).context("there is no such agent")?;
    let (_, scenario) = ALL.iter().find(|(one, _)| *one == name).context("there is no such scenario")?;
    let pair = Pair::compared(contender)?;
    let began = Instant::now();
    let played = scenario(&pair);
    let (outage, fencings) = (pair.writer.outage(began).as_secs_f64(), pair.cluster.switch.since(began).len());
    let Err(error) = played else {
        println!("  {agent:12} passed (outage {outage:.2} s, {fencings} fencings)");
        return Ok(());
    };
    println!("  {agent:12} {error:#} (outage {outage:.2} s, {fencings} fencings)");
    for failure in pair.failures() {
        println!("               {} on {}: {} {}", failure.operation, failure.node, failure.status, failure.reason);
    }
    if contender == Contender::Greenarrow {
        println!("{}", pair.dump());
    }
    std::process::exit(NOT_PASSED)
}
