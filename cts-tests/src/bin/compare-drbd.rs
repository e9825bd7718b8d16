//! What can happen to a pair with DRBD, played with this project's agent and with ocf:linbit:drbd: `cargo compare-drbd`.
//!
//! A comparison, not a test: what the peer does otherwise is shown, and changes nothing. What does fail is a cluster that
//! could not be set up, and a scenario that this project's own agent did not pass: then it proves nothing of the other either.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, pipe};

use anyhow::{Context, Result, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command};
use cts_tests::command::command;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::vm::drbd_pair::{Contender, Pair};
use cts_tests::vm::drbd_scenarios::ALL;

/// What begins a line with the outcome of a scenario, which the outer program reads: `\tNAME\tPASSED\tWHAT WAS SEEN`.
const OUTCOME: char = '\t';

/// How a scenario ended.
struct Outcome {
    passed: bool,
    seen: String,
}

fn main() -> Result<()> {
    let arguments = interface().get_matches();
    let names = chosen(&arguments);
    if let Some(agent) = arguments.get_one::<String>("play") {
        return enter(Isolation::Guests(&["drbd"]), || play(contender(agent)?, &names));
    }
    let agents: Vec<&String> = arguments.get_many("agent").map(Iterator::collect).unwrap_or_default();
    let mut outcomes = BTreeMap::new();
    for contender in Contender::ALL {
        if agents.is_empty() || agents.iter().any(|one| *one == contender.name()) {
            println!("ocf:{}:drbd", contender.name());
            outcomes.insert(contender.name(), every(contender, &names)?);
        }
    }
    table(&names, &outcomes);
    let own = outcomes.get(Contender::Greenarrow.name()).into_iter().flatten();
    let unsound: Vec<&str> = own.filter(|(_, outcome)| !outcome.passed).map(|(name, _)| name.as_str()).collect();
    ensure!(unsound.is_empty(), "not passed by ocf:greenarrow:drbd itself: {}", unsound.join(", "));
    Ok(())
}

fn interface() -> Command {
    let scenario = Arg::new("scenario").value_name("SCENARIO").action(ArgAction::Append);
    let scenario = scenario.value_parser(ALL.iter().map(|(name, _)| *name).collect::<Vec<&str>>());
    let agents = Contender::ALL.map(Contender::name);
    let agent = Arg::new("agent").long("agent").value_name("NAME").action(ArgAction::Append).value_parser(agents);
    Command::new("cargo compare-drbd")
        .about("Plays what can happen to a pair with DRBD with this project's agent and ocf:linbit:drbd")
        .arg(scenario.help("Play these only"))
        .arg(agent.help("With this agent only"))
        .arg(Arg::new("play").long("play").hide(true))
}

/// In the order in which they are played.
fn chosen(arguments: &ArgMatches) -> Vec<&'static str> {
    let named: Vec<&String> = arguments.get_many("scenario").map(Iterator::collect).unwrap_or_default();
    let all = ALL.iter().map(|(name, _)| *name);
    all.filter(|name| named.is_empty() || named.iter().any(|one| one == name)).collect()
}

fn contender(name: &str) -> Result<Contender> {
    Contender::ALL.into_iter().find(|one| one.name() == name).context("there is no such agent")
}

/// Plays them on one cluster as long as it is healthy after each, and the rest on a new one.
fn every(contender: Contender, names: &[&str]) -> Result<BTreeMap<String, Outcome>> {
    let mut outcomes = BTreeMap::new();
    loop {
        let rest: Vec<&str> = names.iter().copied().filter(|name| !outcomes.contains_key(*name)).collect();
        if rest.is_empty() {
            return Ok(outcomes);
        }
        let (output, input) = pipe()?;
        let again = command([std::env::current_exe()?]).args(["--play", contender.name()]).args(&rest);
        let mut playing = again.start_into(input)?;
        let before = outcomes.len();
        for line in BufReader::new(output).lines() {
            let line = line?;
            let mut fields = line.split(OUTCOME).skip(1);
            match (fields.next(), fields.next(), fields.next()) {
                (Some(name), Some(passed), Some(seen)) => {
                    println!("  {name}: {seen}");
                    let outcome = Outcome { passed: passed == "passed", seen: seen.to_owned() };
                    outcomes.insert(name.to_owned(), outcome);
                }
                _ => println!("    {line}"),
            }
        }
        let status = playing.wait()?;
        ensure!(outcomes.len() > before, "`{}` could not be played with {} ({status})", rest[0], contender.name());
    }
}

/// Ends after one that leaves no healthy pair: what it has left behind could harm the next.
fn play(contender: Contender, names: &[&str]) -> Result<()> {
    let pair = Pair::start(contender)?;
    for (name, scenario) in ALL.iter().filter(|(name, _)| names.contains(name)) {
        let error = match pair.play(*scenario) {
            Ok(seen) => {
                println!("{OUTCOME}{name}{OUTCOME}passed{OUTCOME}{seen}");
                continue;
            }
            Err(error) => format!("{error:#}").replace(['\n', OUTCOME], " "),
        };
        for failure in pair.failures() {
            println!("{} on {}: {} {}", failure.operation, failure.node, failure.status, failure.reason);
        }
        if contender == Contender::Greenarrow {
            println!("{}", pair.cluster.dump());
        }
        println!("{OUTCOME}{name}{OUTCOME}failed{OUTCOME}{error}");
        if pair.healthy().is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn table(names: &[&str], outcomes: &BTreeMap<&str, BTreeMap<String, Outcome>>) {
    println!();
    for name in names {
        println!("{name}");
        for (agent, outcomes) in outcomes {
            if let Some(Outcome { passed, seen }) = outcomes.get(*name) {
                println!("  {agent:12} {} {seen}", if *passed { "passed" } else { "FAILED" });
            }
        }
    }
}
