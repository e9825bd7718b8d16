//! ocf:greenarrow:postgresql in a real cluster, while a client writes: everything acknowledged is still there afterwards.

use std::time::Instant;

use anyhow::{Result, ensure};
use cts_tests::postgres::USUAL;
use cts_tests::postgres_pair::{Pair, RESOURCE, with_cluster};

/// Every row that was acknowledged is there.
fn nothing_lost(pair: &Pair) -> Result<()> {
    let lost = pair.lost()?;
    ensure!(lost == 0, "{lost} acknowledged rows are lost");
    Ok(())
}

fn switchover(pair: &Pair) -> Result<()> {
    let (_, standbys) = pair.primary()?;
    pair.promote(standbys[0])?;
    nothing_lost(pair)
}

#[test]
fn the_promoted_role_moves_to_and_fro() -> Result<()> {
    with_cluster(USUAL, || {
        let pair = Pair::start(USUAL, 2, &[])?;
        for round in 0..6 {
            let began = Instant::now();
            pair.play(&format!("planned switchover {round}"), switchover)?;
            ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
        }
        let status = pair.cluster.status();
        let failures = status.map(|status| status.failures).unwrap_or_default();
        let ours: Vec<_> = failures.iter().filter(|failure| failure.operation.starts_with(RESOURCE)).collect();
        ensure!(ours.is_empty(), "{ours:#?}");
        Ok(())
    })
}
