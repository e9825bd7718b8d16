//! The database on stage: a client that writes rows all the time through an address of the set.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cts_tests::postgres::{Place, Server};
use cts_tests::scenarios::Rig;
use cts_tests::sql_writer::Writer;
use cts_tests::supervision::AMPLE;
use cts_tests::wait;

/// A connection that was begun while nobody was there is given up after this, and so measured no more finely.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

/// The client.
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    writer: Writer,
}

/// What the client saw of one step.
pub(crate) struct Seen {
    /// The longest time without an acknowledged row.
    pub(crate) outage: Duration,
    /// The rows acknowledged during the step, and how many of them the primary has at its end.
    pub(crate) acknowledged: usize,
    pub(crate) found: usize,
}

impl Client {
    pub(crate) fn start(rig: &Rig) -> Result<Self> {
        let address = *rig.subject.addresses.first().context("there are no addresses")?;
        let writer = Writer::start(address)?;
        writer.patience(PATIENCE);
        Ok(Self { address, writer })
    }

    /// Waits for a row that is acknowledged after `since`; when that was.
    pub(crate) fn wrote(&self, since: Instant) -> Result<Instant> {
        let row = || Ok(self.writer.first_after(since));
        Ok(wait::until_some("the database to acknowledge a row", AMPLE, wait::QUICK, row)?.0)
    }

    /// What it saw from `began` on, once it writes again.
    pub(crate) fn seen(&self, rig: &Rig, began: Instant) -> Result<Seen> {
        self.wrote(Instant::now())?;
        let outage = self.writer.outage(began);
        let acknowledged = self.writer.acknowledged_since(began);
        let node = rig.holder()?.context("no node holds the addresses")?;
        let server = Server::new(&node.name, &node.address().to_string(), Place::In(Arc::clone(node)))?;
        let rows = server.sql("SELECT id FROM audit")?;
        let rows = rows.lines().map(|row| Ok(row.parse()?)).collect::<Result<BTreeSet<u64>>>()?;
        let found = acknowledged.intersection(&rows).count();
        Ok(Seen { outage, acknowledged: acknowledged.len(), found })
    }
}
