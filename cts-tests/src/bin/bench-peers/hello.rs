//! Beside a program that prints a line and ends: the least that any program costs.

use anyhow::Result;

use crate::invocation::{Invocation, Pairs};
use crate::table::{Goal, Table, ms};

/// User and system time, median of pairs run in turn.
pub(crate) fn beside(table: &Table, runs: usize, what: &str, ours: &Invocation, limit: f64) -> Result<()> {
    let pairs = Pairs::in_turn(runs, ours, &Invocation::hello()?)?;
    let peer = format!("hello, world: {}", ms(pairs.second));
    table.compare(what, &ms(pairs.first), &peer, pairs.ratio, Goal::AtMost(limit));
    Ok(())
}

/// Instructions outside the kernel: other than times they are the same at each run.
pub(crate) fn instructions(table: &Table, ours: &Invocation) -> Result<()> {
    let what = "the same, instructions outside the kernel (callgrind)";
    match (ours.instructions()?, Invocation::hello()?.instructions()?) {
        (Some(ours), Some(hellos)) => {
            let ratio = thousands(ours) / thousands(hellos);
            let [ours, hellos] = [ours, hellos].map(|count| format!("{:.0} thousand", thousands(count)));
            table.row(what, &ours, &format!("hello, world: {hellos}"), &format!("{ratio:.2} times"), "", None);
        }
        _ => table.row(what, "not available", "valgrind is not installed", "", "", None),
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of instructions are far below the 2^53 that a f64 holds exactly"
)]
fn thousands(count: u64) -> f64 {
    count as f64 / 1000.0
}
