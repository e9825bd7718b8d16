//! Every check of this project, or the named ones, with a summary at the end: `cargo cts [NAME…]`.

mod checks;
mod run;

use std::panic::resume_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, bail, ensure};
use clap::{Arg, ArgAction};
use cts_tests::packages;
use nix::unistd::geteuid;

use crate::checks::{CHECKS, Check, Kind};
use crate::run::{Outcome, require_cargo_deny, run};

fn main() -> Result<ExitCode> {
    let list = Arg::new("list").long("list").action(ArgAction::SetTrue);
    let names = Arg::new("name").action(ArgAction::Append).help("Run these checks only");
    let arguments = clap::Command::new("cargo cts")
        .about("Runs the project's checks; needs root, because it starts clusters in namespaces of their own")
        .arg(list.help("Print the checks and what they are about, and run none"))
        .arg(names)
        .get_matches();
    if arguments.get_flag("list") {
        for check in CHECKS {
            println!("{:18} {}", check.name, check.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&arguments.get_many("name").unwrap_or_default().cloned().collect::<Vec<String>>())?;
    ensure!(geteuid().is_root(), "the checks start clusters and install packages: run this as root (or with sudo -E)");
    let rigs = [packages::GUEST, packages::HYPERVISOR, packages::SSH].concat();
    let clusters = chosen.iter().any(|check| matches!(check.kind, Kind::Guests(_) | Kind::Clusters(_)));
    // All at once: apt-get has a lock, and checks that run at the same time would meet there.
    let rigs = if clusters { rigs.as_slice() } else { &[] };
    packages::require(&[packages::CLUSTER, packages::CHECKS, rigs].concat())?;
    if chosen.iter().any(|check| check.name == "deny") {
        require_cargo_deny()?;
    }
    let (guests, others): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|check| matches!(check.kind, Kind::Guests(_)));
    let (clusters, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|check| matches!(check.kind, Kind::Clusters(_)));
    let mut outcomes = others.into_iter().map(|check| run(check, "")).collect::<Result<Vec<_>>>()?;
    outcomes.extend(side_by_side(&guests, &clusters)?);
    Ok(summary(&outcomes))
}

/// Runs the guests' checks one after the other and beside them one of the clusters', then three of those at once, which is
/// what two processors bear. What they print is told apart by their names.
fn side_by_side(guests: &[&'static Check], clusters: &[&'static Check]) -> Result<Vec<Outcome>> {
    let told_apart = |check: &'static Check| {
        let margin = if guests.len() + clusters.len() > 1 { format!("{:18} | ", check.name) } else { String::new() };
        run(check, &margin)
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        while let Some(check) = clusters.get(next.fetch_add(1, Ordering::Relaxed)) {
            outcomes.push(told_apart(check)?);
        }
        Ok(outcomes)
    };
    let finished: Vec<Result<_>> = thread::scope(|scope| {
        let beside = scope.spawn(work);
        let in_guests = guests.iter().map(|check| told_apart(check)).collect();
        let rest = [beside, scope.spawn(work), scope.spawn(work)];
        let rest = rest.map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic)));
        rest.into_iter().chain([in_guests]).collect()
    });
    Ok(finished.into_iter().collect::<Result<Vec<Vec<_>>>>()?.into_iter().flatten().collect())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Check>> {
    let known: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no check is called `{unknown}`; there are: {}", known.join(", "));
    }
    Ok(CHECKS.iter().filter(|check| names.is_empty() || names.iter().any(|name| name == check.name)).collect())
}

fn summary(outcomes: &[Outcome]) -> ExitCode {
    println!("\n{:18} {:>8} {:>8} {:>8}", "check", "passed", "failed", "seconds");
    for Outcome { name, took, passed, failed, .. } in outcomes {
        println!("{name:18} {passed:>8} {failed:>8} {:>8.1}", took.as_secs_f64());
    }
    let sum = |part: fn(&Outcome) -> u32| outcomes.iter().map(part).sum::<u32>();
    let (passed, failed) = (sum(|one| one.passed), sum(|one| one.failed));
    println!("\n{passed} passed, {failed} failed");
    // The output before is long.
    for Outcome { name, said, .. } in outcomes.iter().filter(|one| one.failed > 0) {
        println!("\n==== {name}: what failed said");
        println!("{}", said.join("\n"));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
