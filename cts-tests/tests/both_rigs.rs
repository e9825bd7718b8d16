//! The same scenarios with nodes and with guests, with `ocf:greenarrow:primary-ips` as a promotable clone.

use std::time::Duration;

use anyhow::{Context, Result};
use cts_tests::both_rigs::Played;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::scenarios::Rig;
use cts_tests::subject::Subject;
use cts_tests::vm::cluster::Cluster;
use cts_tests::vm::outside::Outside;
use cts_tests::vm::rack::Rack;
use cts_tests::{installed, observer::Observer};

const AGENT: &str = "primary-ips";
const ADDRESSES: u16 = 20;

/// An emulated guest answers twenty addresses so often.
const INTERVAL: Duration = Duration::from_millis(100);

#[test]
fn nodes_carry_the_addresses_through_moves_and_power_cuts() -> Result<()> {
    enter(Isolation::Cluster(&[AGENT]), || {
        let rig = Rig::start(Subject::primary_ips_promotable(ADDRESSES, 0), INTERVAL)?;
        let Rig { cluster, observer, subject } = &rig;
        let played = Played { cluster, subject, observer, fencings: &|since| cluster.switch.since(since) };
        played.all().with_context(|| cluster.dump())
    })
}

#[test]
fn guests_carry_the_addresses_through_moves_and_power_cuts() -> Result<()> {
    enter(Isolation::Guests(&[AGENT]), || {
        let subject = &Subject::primary_ips_promotable(ADDRESSES, 0);
        let rack = Rack::start(2)?;
        let _outside = Outside::start(&rack.outside)?;
        rack.each(|guest| {
            guest.lay_down(&subject.items)?;
            guest.install(&installed::agent(AGENT)?, subject.agent, 0o755)?;
            // A power cut soon after must not take it away.
            guest.text(&["sync"]).map(drop)
        })?;
        let observer = &Observer::start(&subject.addresses, INTERVAL)?;
        let cluster = Cluster::start(rack, |cib| subject.configure(cib))?;
        let fencings = |since| cluster.rack.power.since(since);
        let played = Played { cluster: &cluster, subject, observer, fencings: &fencings };
        played.all().with_context(|| cluster.dump())
    })
}
