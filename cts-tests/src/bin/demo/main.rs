//! The demonstration: a real two-node cluster moves a PostgreSQL primary, the addresses of an IP file behind it and the services
//! behind them, by plan and by power cut.

mod database;
mod screen;
mod services;
mod steps;
mod vm;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgAction, Command};
use cts_tests::greenarrow::ACTIVE;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::postgres::{self, USUAL};
use cts_tests::scenarios::Rig;
use cts_tests::subject::Subject;
use cts_tests::vm::chain;
use cts_tests::{installed, wait};
use nix::sys::signal::{SigSet, Signal};

use screen::Screen;

/// The size of the set: what a large installation of the vendor's had.
const IPV4: u16 = 500;
const IPV6: u16 = 20;

/// 520 addresses ten times a second are 5,200 pings: more would compete with the cluster for two processors.
const INTERVAL: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let keep = Arg::new("keep").long("keep").action(ArgAction::SetTrue);
    let vm = Arg::new("vm").long("vm").action(ArgAction::SetTrue).conflicts_with("keep");
    let arguments = Command::new("cargo demo")
        .about("Starts a two-node Pacemaker cluster in namespaces of this machine and shows it failing over")
        .arg(keep.help("Leave the cluster up at the end, until Ctrl-C"))
        .arg(vm.help("In virtual machines instead, with a real DRBD and a file system on it in place of the services"))
        .get_matches();
    if std::process::id() != 1 {
        postgres::tree(USUAL)?;
    }
    if arguments.get_flag("vm") {
        return enter(Isolation::Guests(chain::PACKAGES), || {
            let screen = set()?;
            vm::play(&screen)?;
            println!("the end; nothing of the cluster remains");
            Ok(())
        });
    }
    enter(Isolation::Cluster(&["primary-ips", "services", "postgresql"]), || demonstrate(arguments.get_flag("keep")))
}

/// The screen; a signal from now on ends the demonstration.
fn set() -> Result<Screen> {
    let interrupts = block_interrupts()?;
    let screen = Screen::new();
    let ending = screen.clone();
    std::thread::spawn(move || {
        // This process is PID 1 of its namespace: the cluster ends with it.
        let signal = interrupts.wait();
        ending.finish();
        println!("ended by {}; nothing of the cluster remains", signal.map_or("a signal", Signal::as_str));
        std::process::exit(130);
    });
    Ok(screen)
}

fn demonstrate(keep: bool) -> Result<()> {
    let screen = set()?;
    postgres::put_in_place(USUAL)?;
    let subject = Subject::greenarrow(IPV4, IPV6);
    screen.say(&format!(
        "two nodes, Corosync and Pacemaker with fencing, PostgreSQL, {IPV4} IPv4 and {IPV6} IPv6 addresses, {} services",
        ACTIVE.len()
    ));
    let rig = Arc::new(Rig::start(subject, INTERVAL)?);
    screen.follow(&rig);
    let played = steps::play(&rig, &screen);
    if let Err(error) = played {
        screen.finish();
        return Err(error.context(rig.cluster.dump()));
    }
    if keep {
        stay(&rig, &screen)?;
    }
    screen.finish();
    println!("the end; nothing of the cluster remains");
    Ok(())
}

/// Blocked here, before any thread exists, they reach only the thread that waits for them.
fn block_interrupts() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    Ok(signals)
}

/// The PID namespace hides from here what the nodes' processes are called outside, so pgrep has to find them.
fn stay(rig: &Rig, screen: &Screen) -> Result<()> {
    let program = installed::rig_program("rig-node")?;
    for node in &rig.cluster.nodes {
        let program = program.display();
        let find = format!("pgrep -f '^{program} {} '", node.name);
        screen.say(&format!("to enter {}, as root elsewhere: nsenter -t $({find}) -m -u -i -n -p bash", node.name));
    }
    screen.say("then try: crm_mon -1, ip addr, svstat /service/*, crm_resource --move …; Ctrl-C here ends the cluster");
    loop {
        std::thread::sleep(wait::TOOL);
    }
}
