//! A cluster of two guests with DRBD, a file system on it that is written to all the time, and fencing in DRBD and in
//! Pacemaker; run by this project's agent or by its peer.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::cluster::Cluster;
use super::drbd::{R0, device};
use super::guest::Guest;
use super::rack::Rack;
use super::stream::Stream;
use crate::cib::{Cib, Primitive, Resource, Role};
use crate::cluster::SETTLE;
use crate::crm_mon::Failure;
use crate::node::Owner;
use crate::{installed, wait};

/// Where the file system of r0 is mounted.
pub const PLACE: &str = "/mnt";
/// The clone's id.
pub const CLONE: &str = "drbd-clone";
/// The primitive's.
pub const RESOURCE: &str = "drbd";
/// The id of the constraint that the handlers of both place (crm-fence-peer.9.sh).
pub const CONSTRAINT: &str = "drbd-fence-by-handler-r0-drbd-clone";
/// The configuration of r0.
pub const CONFIGURATION: &str = "/etc/drbd.d/r0.res";

/// A monitor of either role has run within this time, and Pacemaker shows its answer.
const LOOK_AGAIN: Duration = Duration::from_secs(14);

/// How long it may take until the right thing is said.
const SAID: Duration = Duration::from_secs(50);

/// Where this project's handler is in a guest.
const HANDLER: &str = "/usr/sbin/greenarrow-drbd-fence";

/// An agent for DRBD, with the handlers that come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// ocf:greenarrow:drbd, greenarrow-drbd-fence
    Greenarrow,
    /// ocf:linbit:drbd, crm-fence-peer.9.sh and crm-unfence-peer.9.sh
    Linbit,
}

impl Contender {
    /// Both, this project's first.
    pub const ALL: [Self; 2] = [Self::Greenarrow, Self::Linbit];

    /// Its provider, and what it is called in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greenarrow => "greenarrow",
            Self::Linbit => "linbit",
        }
    }

    /// The program in the guests.
    pub fn path(self) -> String {
        format!("/usr/lib/ocf/resource.d/{}/drbd", self.name())
    }

    /// The clone of r0.
    pub fn clone_of_r0(self) -> Resource {
        // Priority makes the Primary win a race for fencing.
        let drbd = Primitive::ocf(RESOURCE, self.name(), "drbd")
            .parameter("drbd_resource", R0.name)
            .meta("priority", "1")
            .operation("monitor", "10s", "30s", Some(Role::Promoted))
            .operation("monitor", "11s", "30s", Some(Role::Unpromoted));
        let once = [("start", "60s"), ("stop", "60s"), ("promote", "60s"), ("demote", "20s"), ("notify", "60s")];
        Resource::Promotable(once.iter().fold(drbd, |drbd, (name, timeout)| drbd.operation(name, "0s", timeout, None)))
    }

    /// The policy that suspends I/O until the peer is known to be harmless, and who sees to that.
    fn fencing(self) -> String {
        let [fence, unfence] = match self {
            Self::Greenarrow => ["fence", "unfence"].map(|task| format!("{HANDLER} {task}")),
            Self::Linbit => ["fence", "unfence"].map(|task| format!("/usr/lib/drbd/crm-{task}-peer.9.sh")),
        };
        format!(
            " disk {{ fencing resource-and-stonith; }}\n handlers {{\n  fence-peer \"{fence}\";\n  after-resync-target \
             \"{unfence}\";\n }}\n}}\n"
        )
    }
}

/// The file system of r0.
pub fn file_system() -> Primitive {
    Primitive::ocf("fs", "heartbeat", "Filesystem")
        .parameter("device", &R0.device())
        .parameter("directory", PLACE)
        .parameter("fstype", "ext4")
        .operation("monitor", "10s", "30s", None)
}

/// The cluster, and what is written in it.
#[derive(Debug)]
pub struct Pair {
    /// The agent that runs r0.
    pub contender: Contender,
    /// The cluster.
    pub cluster: Cluster,
    /// Writes all the time.
    pub stream: Stream,
}

impl Pair {
    /// Starts it, and waits until it is healthy.
    pub fn start(contender: Contender) -> Result<Self> {
        let pair = Self::with(Rack::start(2)?, contender, |cib| {
            let (drbd, file_system) = (contender.clone_of_r0(), Resource::Plain(file_system()));
            let cib = cib.property("priority-fencing-delay", "5s");
            cib.resource(drbd.clone()).resource(file_system.clone()).follows(&file_system, &drbd)
        })?;
        pair.healthy().with_context(|| pair.cluster.dump())?;
        Ok(pair)
    }

    /// The same on guests that have more on their disks, with this configuration. Returns without waiting for it.
    pub fn with(rack: Rack, contender: Contender, configure: impl FnOnce(Cib) -> Cib) -> Result<Self> {
        R0.lay_down(&rack)?;
        rack.each(|guest| {
            guest.install(&installed::agent("drbd")?, &Contender::Greenarrow.path(), 0o755)?;
            guest.install(&installed::agent("greenarrow-drbd-fence")?, HANDLER, 0o755)?;
            set_handlers(guest, CONFIGURATION, contender)
        })?;
        R0.up(&rack)?;
        R0.make_file_system(&rack)?;
        R0.down(&rack)?;
        let stream = Stream::start(&rack.guests, &format!("{PLACE}/stream"))?;
        Ok(Self { contender, cluster: Cluster::start(rack, configure)?, stream })
    }

    /// Plays a scenario that leaves a healthy cluster: nothing that was synced is lost, one Primary, both sides up to date,
    /// no failure unseen to. Explains what was not so.
    pub fn play(&self, scenario: fn(&Self) -> Result<()>) -> Result<String> {
        // What is cleaned up is unknown to the cluster until it was looked at again.
        self.cluster.cleanup(RESOURCE)?;
        self.cluster.wait_idle()?;
        let began = Instant::now();
        scenario(self)?;
        let primary = self.healthy()?;
        let kept = self.stream.nothing_lost(primary)?;
        let (outage, fencings) = (self.stream.outage(began), self.cluster.rack.power.since(began).len());
        let (outage, took) = (outage.as_secs_f64(), began.elapsed().as_secs_f64());
        Ok(format!("outage {outage:.1} s, fenced {fencings} times, {took:.0} s in all; {kept}"))
    }

    /// The guest with the file system, and the other. Two with it would destroy it.
    pub fn primary(&self) -> Result<(&Guest, &Guest)> {
        let mut holder: Option<&Guest> = None;
        for guest in self.cluster.nodes.iter().filter(|guest| guest.is_on()) {
            if guest.read_file("/proc/mounts").is_ok_and(|mounts| mounts.contains(&format!(" {PLACE} "))) {
                ensure!(holder.is_none(), "the file system is mounted on two guests");
                holder = Some(guest);
            }
        }
        let holder = holder.context("the file system is mounted nowhere")?;
        Ok((holder, self.cluster.peer(holder)?))
    }

    /// Waits until DRBD is in sync, the file system is written to, no handler's constraint is left, and the cluster has
    /// nothing to do.
    pub fn healthy(&self) -> Result<&Guest> {
        let asked = Instant::now();
        self.cluster.wait_quorum(2)?;
        let mut last = None;
        let healthy = || match self.ill(asked) {
            Ok(None) => Ok(true),
            Ok(Some(ill)) => {
                last = Some(ill);
                Ok(false)
            }
            Err(error) => {
                last = Some(format!("{error:#}"));
                Ok(false)
            }
        };
        let waited = wait::until("a healthy pair", SETTLE, self.cluster.step, healthy);
        waited.with_context(|| format!("last seen: {}", last.unwrap_or_default()))?;
        self.cluster.wait_idle()?;
        Ok(self.primary()?.0)
    }

    /// What is not as it should be at the moment.
    fn ill(&self, asked: Instant) -> Result<Option<String>> {
        let (primary, secondary) = self.primary()?;
        for (guest, role) in [(primary, "Primary"), (secondary, "Secondary")] {
            let one = device(guest, 0)?.context("no device")?;
            let disks = one.disk == "UpToDate" && one.peer_disk == "UpToDate";
            if one.role != role || one.connection != "Connected" || !disks {
                return Ok(Some(format!("{} is to be {role}: {one:?}", guest.name)));
            }
        }
        if !self.stream.wrote(asked) {
            return Ok(Some("nothing is written".to_owned()));
        }
        Ok(self.fenced_off()?.then(|| "the handler's constraint is there".to_owned()))
    }

    /// Whether the constraint of a handler is there.
    pub fn fenced_off(&self) -> Result<bool> {
        Ok(self.cluster.tool(&["cibadmin", "--query", "--scope", "constraints"])?.contains(CONSTRAINT))
    }

    /// Waits until the file system is on `guest`, and written to.
    pub fn serves(&self, guest: &Guest) -> Result<()> {
        let serves = || Ok(self.primary().is_ok_and(|(primary, _)| primary.name == guest.name));
        wait::until(&format!("{} to serve", guest.name), SETTLE, self.cluster.step, serves)?;
        self.goes_on()
    }

    /// Waits until something is written that was not begun before.
    pub fn goes_on(&self) -> Result<()> {
        self.goes_on_within(SETTLE)
    }

    /// The same with another patience.
    pub fn goes_on_within(&self, limit: Duration) -> Result<()> {
        let asked = Instant::now();
        wait::until("records to be written", limit, wait::QUICK, || Ok(self.stream.wrote(asked))).map(drop)
    }

    /// These guests were fenced since `since`, in this order, and no other.
    pub fn fenced(&self, since: Instant, expected: &[&str]) -> Result<()> {
        let power = &self.cluster.rack.power;
        wait::until("a fencing", SETTLE, wait::QUICK, || Ok(power.since(since).len() >= expected.len()))?;
        // The other's order, if there were one, would not be long in coming.
        std::thread::sleep(Duration::from_secs(2));
        let fenced = power.since(since);
        let targets: Vec<&str> = fenced.iter().map(|one| one.target.as_str()).collect();
        ensure!(targets == expected, "{expected:?} were to be fenced: {fenced:#?}");
        Ok(())
    }

    /// What Pacemaker shows of DRBD that was no plain success; nothing while it does not answer.
    pub fn failures(&self) -> Vec<Failure> {
        let failures = self.cluster.status().map(|status| status.failures).unwrap_or_default();
        failures.into_iter().filter(|failure| failure.operation.starts_with(RESOURCE)).collect()
    }

    /// Waits until Pacemaker shows all of these words as what an agent said on `guest`, and returns the whole. A degraded answer
    /// that is shown hides a later one with another reason: it is cleaned up, as by an administrator who looks again.
    pub fn said(&self, guest: &Guest, words: &[&str]) -> Result<String> {
        let mut looked = Instant::now();
        let said = || {
            let here: Vec<_> = self.failures().into_iter().filter(|one| one.node == guest.name).collect();
            let found = here.iter().find(|one| words.iter().all(|word| one.reason.contains(word)));
            if found.is_none() && here.iter().any(Failure::is_degraded) && looked.elapsed() > LOOK_AGAIN {
                self.cluster.cleanup(RESOURCE)?;
                looked = Instant::now();
            }
            Ok(found.map(|one| one.reason.clone()))
        };
        let what = format!("{words:?} to be said of {}", guest.name);
        let waited = wait::until_some(&what, SAID, self.cluster.step, said);
        let (reason, _) = waited.with_context(|| format!("said was: {:?}", self.failures()))?;
        Ok(reason)
    }

    /// From ocf:linbit:drbd and its handlers to this project's, while everything runs.
    pub fn moves_over(&mut self) -> Result<()> {
        let began = Instant::now();
        let primary = self.primary()?.0.name.clone();
        self.contender = Contender::Greenarrow;
        // DRBD 8.4 has drbdadm read them when it calls one.
        self.cluster.rack.each(|guest| set_handlers(guest, CONFIGURATION, Contender::Greenarrow))?;
        let line = format!("cd /root; set -e\n{}", commands_of_the_move()?);
        self.cluster.any()?.command(&["bash", "-c", &line]).within(SETTLE).text()?;
        self.cluster.wait_idle()?;
        self.healthy()?;
        let shown = self.cluster.tool(&["crm_mon", "-1", "--output-as=xml"])?;
        ensure!(shown.contains("ocf:greenarrow:drbd") && !shown.contains("ocf:linbit:drbd"), "{shown}");
        ensure!(self.primary()?.0.name == primary, "the Primary was moved");
        let outage = self.stream.outage(began);
        ensure!(outage < Duration::from_secs(2), "writing stopped for {outage:?}");
        self.fenced(began, &[])?;
        self.stream.nothing_lost(self.primary()?.0).map(drop)
    }
}

/// The commands that the man page gives for the move from ocf:linbit:drbd, to the letter.
fn commands_of_the_move() -> Result<String> {
    let path = installed::workspace().join("metadata/man/ocf_greenarrow_drbd.7");
    let page = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let section =
        page.split_once(".SH COMING FROM OCF:LINBIT:DRBD").and_then(|(_, section)| section.split_once(".nf\n"));
    let commands = section.and_then(|(_, block)| block.split_once("\n.fi"));
    let (commands, _) = commands.with_context(|| format!("{} has no commands for the move", path.display()))?;
    Ok(commands.replace("\\-", "-").replace("\\(aq", "'"))
}

/// Puts these handlers in a resource's configuration on a guest.
pub(super) fn set_handlers(guest: &Guest, configuration: &str, of: Contender) -> Result<()> {
    let text = guest.read_file(configuration)?;
    let bare = text.split(" disk { fencing").next().unwrap_or_default().trim_end();
    let open = bare.strip_suffix("\n}").unwrap_or(bare);
    guest.write_file(configuration, format!("{open}\n{}", of.fencing()), 0o644, Owner::Root)
}
