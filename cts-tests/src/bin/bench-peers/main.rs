//! What the agents cost, beside their peers measured in the same run: `cargo bench-peers`.
//!
//! A benchmark, not a test: it prints what was seen, and fails only where it could not measure.

mod batch;
mod chain;
mod cluster;
mod contender;
mod drbd;
mod executors;
mod hello;
mod invocation;
mod monitor;
mod outage;
mod postgresql;
mod services;
mod table;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use cts_tests::command::command;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::postgres::{self, USUAL};
use cts_tests::{installed, packages};

use table::Table;

/// One part of the benchmark; it runs in namespaces of its own.
struct Section {
    name: &'static str,
    title: &'static str,
    isolation: Isolation,
    measure: fn(&Table, usize) -> Result<()>,
}

const SECTIONS: &[Section] = &[
    Section {
        name: "monitor",
        title: "One monitor (user and system time; median of pairs run in turn)",
        isolation: Isolation::Network,
        measure: monitor::measure,
    },
    Section {
        name: "services",
        title: "One monitor of services (user and system time; median of pairs run in turn)",
        isolation: Isolation::Network,
        measure: services::measure,
    },
    Section {
        name: "batch",
        title: "promote and demote beside ip -batch (elapsed time; median of pairs run in turn)",
        isolation: Isolation::Network,
        measure: batch::measure,
    },
    Section {
        name: "cluster",
        title: "100 addresses in a cluster of two nodes, beside a group of 100 IPaddr2",
        isolation: Isolation::Cluster(&["primary-ips"]),
        measure: cluster::measure,
    },
    Section {
        name: "outage",
        title: "Outage of 500 addresses, by ping from outside, beside one IPaddr2 that moves in the same event",
        isolation: Isolation::Cluster(&["primary-ips"]),
        measure: outage::measure,
    },
    Section {
        name: "postgresql",
        title: "A PostgreSQL pair with an address in a cluster of two nodes, beside PAF and heartbeat:pgsql",
        isolation: Isolation::Cluster(&["postgresql", "primary-ips"]),
        measure: postgresql::measure,
    },
    Section {
        name: "drbd",
        title: "One action of drbd in a guest (medians of pairs run in turn)",
        isolation: Isolation::Guests(&["drbd"]),
        measure: drbd::measure,
    },
    Section {
        name: "chain",
        title: "drbd, a file system, postgresql and 20 addresses in two guests, beside linbit:drbd, heartbeat:pgsql and 20 IPaddr2",
        isolation: Isolation::Guests(cts_tests::vm::chain::PACKAGES),
        measure: chain::measure,
    },
];

fn main() -> Result<()> {
    let arguments = interface().get_matches();
    let rounds = *arguments.get_one::<usize>("rounds").context("rounds has a default")?;
    let markdown = arguments.get_flag("markdown");
    match arguments.get_one::<String>("inside").and_then(|name| section(name)) {
        Some(section) => enter(section.isolation, || {
            let table = Table::begin(section.title, markdown);
            (section.measure)(&table, rounds)?;
            println!("\nload average: {}", table::load());
            Ok(())
        }),
        None => every_section(&arguments, rounds, markdown),
    }
}

fn interface() -> Command {
    let names: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
    let only = Arg::new("only").value_name("NAME").action(ArgAction::Append).value_parser(names.clone());
    let rounds = Arg::new("rounds").long("rounds").value_name("N").default_value("5");
    let rounds = rounds.value_parser(|text: &str| match text.parse() {
        Ok(0) | Err(_) => Err("a number from 1 on is expected"),
        Ok(rounds) => Ok::<usize, _>(rounds),
    });
    let markdown = Arg::new("markdown").long("markdown").action(ArgAction::SetTrue);
    Command::new("cargo bench-peers")
        .about("Measures what the agents cost, beside their peers")
        .arg(only.help("Measure these parts only"))
        .arg(rounds.help(
            "Events of each kind in a cluster, of ours with PostgreSQL twice as many; runs of a program are forty times as many",
        ))
        .arg(markdown.help("Print the tables in Markdown"))
        .arg(Arg::new("inside").long("inside").hide(true).value_parser(names))
}

fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// Builds what is measured, then runs this program again for each section: namespaces are entered once a process.
fn every_section(arguments: &ArgMatches, rounds: usize, markdown: bool) -> Result<()> {
    packages::require(packages::CLUSTER)?;
    packages::require(packages::PEERS)?;
    installed::build(&["primary-ips", "services", "postgresql"])?;
    postgres::tree(USUAL)?;
    build_own()?;
    println!("{}", table::machine()?);
    let chosen: Option<Vec<&String>> = arguments.get_many("only").map(Iterator::collect);
    for section in SECTIONS {
        if chosen.as_ref().is_some_and(|names| !names.iter().any(|name| *name == section.name)) {
            continue;
        }
        let mut again = command([std::env::current_exe()?]).args(["--inside", section.name, "--rounds"]);
        again = again.arg(rounds.to_string());
        if markdown {
            again = again.arg("--markdown");
        }
        let status = again.watched()?;
        anyhow::ensure!(status.success(), "section {} could not be measured ({status})", section.name);
    }
    Ok(())
}

/// What is measured against, and what measures, in the same profile as the agents.
fn build_own() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command([cargo])
        .args(["build", "--quiet", "--release", "--package", "cts-tests"])
        .args(["--bin", "hello", "--bin", "rig-stopwatch", "--target-dir"])
        .arg(installed::target_directory()?)
        .directory(installed::workspace())
        .within(Duration::from_secs(20 * 60))
        .text()
        .map(drop)
}
