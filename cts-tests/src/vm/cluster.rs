//! A Corosync and Pacemaker cluster of guests, with fencing through the power switch.

use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::guest::Guest;
use super::rack::Rack;
use crate::cib::Cib;
use crate::node::Owner;
use crate::pacemaker::{Pacemaker, corosync_conf};

/// The totem token timeout. An emulated processor may stand still for seconds while both guests of a pair boot beside another
/// cluster; with half of this, guests were fenced for it.
const TOKEN: Duration = Duration::from_secs(8);

/// How often a cluster tool is asked: an emulated processor needs half a second for each.
const STEP: Duration = Duration::from_millis(500);

/// A running cluster of guests; it ends with the namespaces of the driver.
#[derive(Debug)]
pub struct Cluster {
    /// The guests, their cables and their power switch.
    pub rack: Rack,
    pacemaker: Pacemaker<Guest>,
    began: Instant,
}

/// What is asked and told about the cluster on any guest, and the guests.
impl Deref for Cluster {
    type Target = Pacemaker<Guest>;

    fn deref(&self) -> &Self::Target {
        &self.pacemaker
    }
}

impl Cluster {
    /// Starts the cluster on guests that have everything else on their disks. Fencing is in the configuration that is given
    /// to `configure` already. From now on a guest that is fenced comes back with its cluster. Returns without waiting for
    /// the cluster.
    pub fn start(rack: Rack, configure: impl FnOnce(Cib) -> Cib) -> Result<Self> {
        let began = Instant::now();
        let names: Vec<_> = rack.guests.iter().map(|guest| guest.name.clone()).collect();
        let cib = configure(Cib::fenced(&names)).to_xml()?;
        let mut authkey = [0; 256];
        File::open("/dev/urandom")?.read_exact(&mut authkey)?;
        let corosync = corosync_conf(&rack.guests, TOKEN);
        rack.power.start_clusters();
        rack.each(|guest| {
            guest.write_file("/etc/corosync/corosync.conf", &corosync, 0o644, Owner::Root)?;
            guest.write_file("/etc/corosync/authkey", authkey, 0o400, Owner::Root)?;
            guest.write_file("/var/lib/pacemaker/cib/cib.xml", &cib, 0o600, Owner::Cluster)?;
            guest.start_cluster()
        })?;
        let pacemaker = Pacemaker { nodes: rack.guests.clone(), step: STEP };
        Ok(Self { rack, pacemaker, began })
    }

    /// When its first member was started.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Everything that helps to understand a failure, for the output of a failed test.
    pub fn dump(&self) -> String {
        let fencing = format!("\n== fencing: {:#?}", self.rack.power.since(self.began));
        let kernel = |guest: &Guest| -> String {
            let devices = guest.read_file("/proc/drbd").unwrap_or_else(|error| format!("{error:#}"));
            format!("== {}: /proc/drbd\n{devices}\n", guest.name)
        };
        let kernels: String = self.nodes.iter().map(|guest| kernel(guest)).collect();
        fencing + &self.rack.dump() + &kernels + &self.pacemaker.dump()
    }
}
