//! ocf:greenarrow:drbd and greenarrow-drbd-fence in a real cluster of guests with fencing: a definition of ocf:linbit:drbd that
//! moves over while a file system is written to, a switchover, a cut replication link, a partition, a killed Primary. Not one
//! record that was synced may be lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cib::{Cib, Primitive, Resource, Role};
use cts_tests::cluster::SETTLE;
use cts_tests::installed;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::vm::cluster::Cluster;
use cts_tests::vm::drbd::{R0, device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;
use cts_tests::vm::stream::Stream;
use cts_tests::vm::switch::Link;
use cts_tests::wait;

const PLACE: &str = "/mnt";
const AGENT: &str = "/usr/lib/ocf/resource.d/greenarrow/drbd";
const HANDLER: &str = "/usr/sbin/greenarrow-drbd-fence";
const CONSTRAINT: &str = "drbd-fence-by-handler-r0-drbd-clone";

/// The handlers, and the policy that calls them.
const FENCING: &str = " disk { fencing resource-and-stonith; }\n handlers {\n  fence-peer \"/usr/sbin/greenarrow-drbd-fence fence\";\n  \
                       after-resync-target \"/usr/sbin/greenarrow-drbd-fence unfence\";\n }\n}\n";

fn drbd(provider: &str) -> Primitive {
    // Priority makes the Primary win a race for fencing.
    let drbd = Primitive::ocf("drbd", provider, "drbd")
        .parameter("drbd_resource", R0.name)
        .meta("priority", "1")
        .operation("monitor", "10s", "30s", Some(Role::Promoted))
        .operation("monitor", "11s", "30s", Some(Role::Unpromoted));
    let once = [("start", "60s"), ("stop", "60s"), ("promote", "60s"), ("demote", "60s"), ("notify", "60s")];
    once.iter().fold(drbd, |drbd, (name, timeout)| drbd.operation(name, "0s", timeout, None))
}

fn configuration(cib: Cib) -> Cib {
    let file_system = Primitive::ocf("fs", "heartbeat", "Filesystem")
        .parameter("device", &R0.device())
        .parameter("directory", PLACE)
        .parameter("fstype", "ext4")
        .operation("monitor", "10s", "30s", None);
    let (drbd, file_system) = (Resource::Promotable(drbd("linbit")), Resource::Plain(file_system));
    cib.property("priority-fencing-delay", "5s")
        .resource(drbd.clone())
        .resource(file_system.clone())
        .follows(&file_system, &drbd)
}

struct Pair {
    cluster: Cluster,
    stream: Stream,
}

impl Pair {
    fn start() -> Result<Self> {
        let rack = Rack::start(2)?;
        R0.lay_down(&rack)?;
        rack.each(|guest| {
            guest.install(&installed::agent("drbd")?, AGENT, 0o755)?;
            guest.install(&installed::agent("greenarrow-drbd-fence")?, HANDLER, 0o755)?;
            let path = "/etc/drbd.d/r0.res";
            let text = guest.read_file(path)?;
            let open = text.trim_end().strip_suffix('}').context("a resource ends with a brace")?.to_owned();
            guest.write_file(path, open + FENCING, 0o644, cts_tests::node::Owner::Root)
        })?;
        R0.up(&rack)?;
        R0.make_file_system(&rack)?;
        R0.down(&rack)?;
        let stream = Stream::start(&rack.guests, &format!("{PLACE}/stream"))?;
        let pair = Self { cluster: Cluster::start(rack, configuration)?, stream };
        pair.healthy().with_context(|| pair.cluster.dump())?;
        Ok(pair)
    }

    /// Plays a scenario that leaves a healthy cluster, and explains its failure.
    fn play(&self, name: &str, scenario: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let began = Instant::now();
        let played = scenario(self).and_then(|()| self.healthy()).and_then(|primary| self.stream.nothing_lost(primary));
        played.with_context(|| format!("scenario `{name}`{}", self.cluster.dump()))?;
        println!(
            "{name}: outage {:.1} s ({:.1} s)",
            self.stream.outage(began).as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// The guest with the file system, and the other.
    fn primary(&self) -> Result<(&Guest, &Guest)> {
        for guest in self.cluster.nodes.iter().filter(|guest| guest.is_on()) {
            if guest.read_file("/proc/mounts")?.contains(&format!(" {PLACE} ")) {
                return Ok((guest, self.cluster.peer(guest)?));
            }
        }
        anyhow::bail!("the file system is mounted nowhere")
    }

    /// In sync, written to, idle, and without a fencing constraint.
    fn healthy(&self) -> Result<&Guest> {
        let asked = Instant::now();
        self.cluster.wait_quorum(2)?;
        let healthy = || -> Result<bool> {
            let (primary, secondary) = self.primary()?;
            let good = |guest: &Guest, role: &str| -> Result<bool> {
                let one = device(guest, 0)?.context("no device")?;
                Ok(one.role == role
                    && one.connection == "Connected"
                    && [one.disk, one.peer_disk] == ["UpToDate", "UpToDate"])
            };
            Ok(good(primary, "Primary")?
                && good(secondary, "Secondary")?
                && self.stream.wrote(asked)
                && !self.fenced_off()?)
        };
        wait::until("DRBD to be healthy and unfenced", SETTLE, self.cluster.step, || Ok(healthy().unwrap_or(false)))?;
        self.cluster.wait_idle()?;
        Ok(self.primary()?.0)
    }

    /// Whether the constraint of the handler is there.
    fn fenced_off(&self) -> Result<bool> {
        Ok(self.cluster.tool(&["cibadmin", "--query", "--scope", "constraints"])?.contains(CONSTRAINT))
    }

    fn serves(&self, guest: &Guest) -> Result<()> {
        let serves = || Ok(self.primary().is_ok_and(|(primary, _)| primary.name == guest.name));
        wait::until(&format!("{} to serve", guest.name), SETTLE, self.cluster.step, serves)?;
        let mounted = Instant::now();
        wait::until("records there", SETTLE, wait::QUICK, || Ok(self.stream.wrote(mounted))).map(drop)
    }

    /// Only these guests were fenced.
    fn fenced(&self, since: Instant, expected: &[&str]) -> Result<()> {
        wait::until("a fencing", SETTLE, wait::QUICK, || {
            Ok(self.cluster.rack.power.since(since).len() >= expected.len())
        })?;
        std::thread::sleep(Duration::from_secs(2));
        let fenced = self.cluster.rack.power.since(since);
        let targets: Vec<&str> = fenced.iter().map(|one| one.target.as_str()).collect();
        ensure!(targets == expected, "{expected:?} were to be fenced: {fenced:#?}");
        Ok(())
    }
}

/// From ocf:linbit:drbd by nothing but the provider: nothing is demoted, and writing goes on.
fn moves_over(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let (primary, _) = pair.primary()?;
    pair.cluster.maintenance(true)?;
    pair.cluster.load(&Cib::default().resource(Resource::Promotable(drbd("greenarrow"))))?;
    pair.cluster.reprobe("drbd-clone")?;
    pair.cluster.wait_idle()?;
    pair.cluster.maintenance(false)?;
    pair.healthy()?;
    let shown = pair.cluster.tool(&["crm_mon", "-1", "--output-as=xml"])?;
    ensure!(shown.contains("ocf:greenarrow:drbd") && !shown.contains("ocf:linbit:drbd"), "{shown}");
    ensure!(pair.primary()?.0.name == primary.name, "the Primary was moved");
    let outage = pair.stream.outage(began);
    ensure!(outage < Duration::from_secs(2), "writing stopped for {outage:?}");
    pair.fenced(began, &[])
}

fn switchover(pair: &Pair) -> Result<()> {
    let (began, (_, secondary)) = (Instant::now(), pair.primary()?);
    pair.cluster.move_to("drbd-clone", true, secondary)?;
    pair.serves(secondary)?;
    pair.cluster.clear("drbd-clone")?;
    pair.fenced(began, &[])
}

/// The handler keeps the other node away while its data is old, and no longer.
fn replication_cut(pair: &Pair) -> Result<()> {
    let (began, (primary, _)) = (Instant::now(), pair.primary()?);
    pair.cluster.rack.cut(Link::Replication);
    wait::until("the handler's constraint", SETTLE, pair.cluster.step, || pair.fenced_off())?;
    let constraint = pair.cluster.tool(&["cibadmin", "--query", "--scope", "constraints"])?;
    ensure!(constraint.contains(&format!("operation=\"ne\" value=\"{}\"", primary.name)), "{constraint}");
    wait_device(primary, 0, "the only good copy", |one| one.peer_disk == "Outdated" || one.peer_disk == "DUnknown")?;
    let alone = Instant::now();
    wait::until("records on the Primary alone", SETTLE, wait::QUICK, || Ok(pair.stream.wrote(alone)))?;
    pair.cluster.rack.mend();
    pair.healthy()?;
    pair.fenced(began, &[])
}

fn partition(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    for link in Link::ALL {
        pair.cluster.rack.cut(link);
    }
    pair.fenced(began, &[&secondary.name])?;
    pair.cluster.rack.mend();
    pair.serves(primary)
}

fn primary_killed(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    primary.power_cut()?;
    pair.serves(secondary)?;
    pair.fenced(began, &[&primary.name])
}

#[test]
fn a_pair_moves_over_from_linbit_and_loses_nothing_in_any_failure() -> Result<()> {
    enter(Isolation::Guests(&["drbd"]), || {
        let pair = Pair::start()?;
        pair.play("moved over from ocf:linbit:drbd", moves_over)?;
        pair.play("switchover", switchover)?;
        pair.play("replication link cut", replication_cut)?;
        pair.play("partition", partition)?;
        pair.play("Primary killed", primary_killed)
    })
}
