//! ocf:greenarrow:drbd and greenarrow-drbd-fence in a real cluster of guests with fencing, while a file system is written to:
//! a definition of ocf:linbit:drbd that moves over, and everything that can happen to a pair. Not one record that was synced
//! may be lost.

use anyhow::{Context, Result, ensure};
use cts_tests::isolation::{Isolation, enter};
use cts_tests::vm::drbd_pair::{Contender, Pair};
use cts_tests::vm::drbd_scenarios::{ALL, Scenario};

/// So many of the scenarios are played after the pair was moved over, and the rest on another.
const FIRST: usize = 8;

/// Plays these on one pair, whatever became of those before, as long as that left it healthy: what a scenario has left behind
/// could harm the next.
fn play(pair: &Pair, scenarios: &[(&str, Scenario)]) -> Result<()> {
    let mut failed = Vec::new();
    for (index, (name, scenario)) in scenarios.iter().enumerate() {
        let error = match pair.play(*scenario) {
            Ok(seen) => {
                println!("{name}: {seen}");
                continue;
            }
            Err(error) => error,
        };
        println!("{name}: FAILED: {error:#}\n{}", pair.cluster.dump());
        failed.push(format!("`{name}` ({error:#})"));
        let rest = scenarios[index + 1..].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        pair.healthy().with_context(|| format!("failed: {}; not played: {rest}", failed.join(", ")))?;
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

#[test]
fn a_pair_moves_over_from_linbit_and_lives_through_faults_and_plans() -> Result<()> {
    enter(Isolation::Guests(&["drbd"]), || {
        let mut pair = Pair::start(Contender::Linbit)?;
        let moved = pair.moves_over();
        moved.with_context(|| format!("moving over from ocf:linbit:drbd{}", pair.cluster.dump()))?;
        println!("moved over from ocf:linbit:drbd");
        play(&pair, &ALL[..FIRST])
    })
}

#[test]
fn a_pair_lives_through_split_brain_partitions_and_power_cuts() -> Result<()> {
    enter(Isolation::Guests(&["drbd"]), || play(&Pair::start(Contender::Greenarrow)?, &ALL[FIRST..]))
}
