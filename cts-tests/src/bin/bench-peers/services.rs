//! One monitor of services under a real svscan: beside a program that does nothing, and beside svstat(8), which reads the
//! same files and judges nothing.

use anyhow::Result;
use cts_tests::daemontools::{Places, Service};
use cts_tests::greenarrow::Tree;
use cts_tests::supervision::Supervision;

use crate::hello;
use crate::invocation::{Invocation, Pairs};
use crate::monitor::RUNS;
use crate::table::{Table, ms};

/// About as many as GreenArrow has.
const USUAL: usize = 30;
const MANY: usize = 200;

/// Services with their logs, promoted.
struct Served {
    tree: Tree,
    count: usize,
}

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    let usual = Served::promote(USUAL)?;
    let monitor = usual.action("monitor")?;
    hello::beside(table, rounds * RUNS, &usual.title(), &monitor, 1.3)?;
    hello::instructions(table, &monitor)?;
    usual.beside_svstat(table, rounds * RUNS)?;
    usual.action("stop")?.cost()?;
    let many = Served::promote(MANY)?;
    many.beside_svstat(table, rounds * RUNS / 4)?;
    many.action("stop")?.cost().map(drop)
}

impl Served {
    fn promote(count: usize) -> Result<Self> {
        let inside = |name: &str| format!("/run/{count}/{name}");
        let [scan, homes, programs, calls] = ["service", "home", "bin", "calls"].map(inside);
        let names = (1..=count).map(|number| format!("hvmail-service-{number:03}"));
        let services = names.map(|name| Service::new(&name).steady().with_log());
        let tree = services.fold(Tree::new(Places { scan, homes, programs, calls }), Tree::with);
        let supervision = Supervision::here(tree.places.clone());
        supervision.lay_down(&tree.items())?;
        let served = Self { tree, count };
        // First, so that the boot guards are there before svscan is.
        served.action("start")?.cost()?;
        supervision.start_svscan()?;
        served.action("promote")?.cost()?;
        Ok(served)
    }

    fn title(&self) -> String {
        format!("monitor, {} services and their logs", self.count)
    }

    fn action(&self, action: &str) -> Result<Invocation> {
        let absent = self.tree.places.program("none");
        let parameters = [
            ("service_dir", self.tree.places.scan.as_str()),
            ("settle_time", "1s"),
            ("mta_control", &absent),
            ("status_command", &absent),
        ];
        Invocation::agent("services", action, &parameters)
    }

    fn beside_svstat(&self, table: &Table, runs: usize) -> Result<()> {
        let units = self.tree.starting().into_iter().flat_map(|name| {
            let entry = self.tree.places.entry(name);
            [format!("{entry}/log"), entry]
        });
        let svstat = Invocation::new(["svstat"]).arguments(units);
        let monitor = self.action("monitor")?;
        let pairs = Pairs::in_turn(runs, &monitor, &svstat)?;
        let peer = format!("one svstat for all: {}", ms(pairs.second));
        table.row(&self.title(), &ms(pairs.first), &peer, &format!("{:.2} times", pairs.ratio), "", None);
        let started = monitor.started()?;
        let met = (started.execs, started.forks) == (1, 0);
        let what = "programs executed, processes forked (strace)";
        table.row(what, &format!("{}, {}", started.execs, started.forks), "", "", "1, 0", Some(met));
        Ok(())
    }
}
