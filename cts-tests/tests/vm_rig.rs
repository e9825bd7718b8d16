//! The rig of virtual machines, proved with agents that are not ours, ocf:linbit:drbd and ocf:heartbeat:Filesystem: what
//! fails here is the rig's fault, or theirs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cib::{Cib, Primitive, Resource, Role};
use cts_tests::cluster::SETTLE;
use cts_tests::command::command;
use cts_tests::disk::{self, Item};
use cts_tests::isolation::{Isolation, STATE, enter};
use cts_tests::network;
use cts_tests::node::Owner;
use cts_tests::vm::cluster::Cluster;
use cts_tests::vm::drbd::{R0, R2, device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::outside::Outside;
use cts_tests::vm::rack::Rack;
use cts_tests::vm::stream::Stream;
use cts_tests::vm::switch::{Link, Weather};
use cts_tests::wait;

/// Where the file system of r0 is mounted.
const PLACE: &str = "/mnt";

/// A cluster with DRBD and a file system on it, and what is written there.
struct Pair {
    cluster: Cluster,
    stream: Stream,
}

fn configuration(cib: Cib) -> Cib {
    // Priority makes the Primary win a race for fencing.
    let drbd = Primitive::ocf("drbd", "linbit", "drbd")
        .parameter("drbd_resource", R0.name)
        .meta("priority", "1")
        .operation("monitor", "10s", "30s", Some(Role::Promoted))
        .operation("monitor", "11s", "30s", Some(Role::Unpromoted));
    let once = [("start", "60s"), ("stop", "60s"), ("promote", "60s"), ("demote", "60s"), ("notify", "60s")];
    let drbd = once.iter().fold(drbd, |drbd, (name, timeout)| drbd.operation(name, "0s", timeout, None));
    let file_system = Primitive::ocf("fs", "heartbeat", "Filesystem")
        .parameter("device", &R0.device())
        .parameter("directory", PLACE)
        .parameter("fstype", "ext4")
        .operation("monitor", "10s", "30s", None);
    let (drbd, file_system) = (Resource::Promotable(drbd), Resource::Plain(file_system));
    cib.property("priority-fencing-delay", "5s")
        .resource(drbd.clone())
        .resource(file_system.clone())
        .follows(&file_system, &drbd)
}

impl Pair {
    fn start() -> Result<Self> {
        let began = Instant::now();
        let rack = Rack::start(2)?;
        println!("two guests up after {:.1} s", began.elapsed().as_secs_f64());
        R0.lay_down(&rack)?;
        R0.up(&rack)?;
        R0.make_file_system(&rack)?;
        R0.down(&rack)?;
        println!("r0 made after {:.1} s", began.elapsed().as_secs_f64());
        let stream = Stream::start(&rack.guests, &format!("{PLACE}/stream"))?;
        let pair = Self { cluster: Cluster::start(rack, configuration)?, stream };
        pair.healthy().with_context(|| pair.cluster.dump())?;
        println!("a healthy cluster after {:.1} s", began.elapsed().as_secs_f64());
        Ok(pair)
    }

    /// Plays a scenario that leaves a healthy cluster, and explains its failure. Nothing that was synced may be lost.
    fn play(&self, name: &str, scenario: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let began = Instant::now();
        let played = scenario(self).and_then(|()| self.healthy()).and_then(|primary| self.stream.nothing_lost(primary));
        let kept = played.with_context(|| format!("scenario `{name}`{}", self.cluster.dump()))?;
        let (outage, took) = (self.stream.outage(began), began.elapsed());
        println!("{name}: outage {:.1} s ({:.1} s); {kept}", outage.as_secs_f64(), took.as_secs_f64());
        Ok(())
    }

    /// Where the file system is mounted, as the kernel says; nowhere, while it is moved.
    fn holder(&self) -> Result<Option<&Guest>> {
        let mut holder = None;
        for guest in self.cluster.nodes.iter().filter(|guest| guest.is_on()) {
            if guest.read_file("/proc/mounts")?.contains(&format!(" {PLACE} ")) {
                ensure!(holder.is_none(), "the file system is mounted on two guests");
                holder = Some(guest.as_ref());
            }
        }
        Ok(holder)
    }

    fn primary(&self) -> Result<(&Guest, &Guest)> {
        let primary = self.holder()?.context("the file system is mounted nowhere")?;
        Ok((primary, self.cluster.peer(primary)?))
    }

    /// Waits until DRBD is in sync on both guests, the file system is where it is Primary, records are written, and the
    /// cluster has nothing left to do.
    fn healthy(&self) -> Result<&Guest> {
        let asked = Instant::now();
        self.cluster.wait_quorum(2)?;
        let healthy = || Ok(self.is_healthy(asked).unwrap_or(false));
        wait::until("DRBD and its file system to be healthy", SETTLE, self.cluster.step, healthy)?;
        self.cluster.wait_idle()?;
        Ok(self.primary()?.0)
    }

    fn is_healthy(&self, asked: Instant) -> Result<bool> {
        let (primary, secondary) = self.primary()?;
        let is = |guest: &Guest, role: &str| -> Result<bool> {
            let one = device(guest, R0.minors[0])?.context("no device")?;
            Ok(one.role == role
                && one.connection == "Connected"
                && one.disk == "UpToDate"
                && one.peer_disk == "UpToDate")
        };
        Ok(is(primary, "Primary")? && is(secondary, "Secondary")? && self.stream.wrote(asked))
    }

    /// Waits until the file system is mounted on a guest and written to.
    fn serves(&self, guest: &Guest) -> Result<()> {
        let what = format!("{} to serve", guest.name);
        let serves = || Ok(self.holder().is_ok_and(|holder| holder.is_some_and(|holder| holder.name == guest.name)));
        wait::until(&what, SETTLE, self.cluster.step, serves)?;
        let mounted = Instant::now();
        wait::until(&format!("{what} records"), SETTLE, wait::QUICK, || Ok(self.stream.wrote(mounted))).map(drop)
    }

    /// The one guest that was fenced since `since`.
    fn fenced(&self, since: Instant) -> Result<String> {
        let some = || Ok(!self.cluster.rack.power.since(since).is_empty());
        wait::until("a fencing", SETTLE, wait::QUICK, some)?;
        // The other's order, if there were one, would not be long in coming.
        std::thread::sleep(Duration::from_secs(2));
        let fenced = self.cluster.rack.power.since(since);
        ensure!(fenced.len() == 1, "one guest was to be fenced: {fenced:#?}");
        Ok(fenced[0].target.clone())
    }

    fn nobody_fenced(&self, since: Instant) -> Result<()> {
        let fenced = self.cluster.rack.power.since(since);
        ensure!(fenced.is_empty(), "nobody was to be fenced: {fenced:#?}");
        Ok(())
    }
}

fn switchover(pair: &Pair) -> Result<()> {
    let (began, (_, secondary)) = (Instant::now(), pair.primary()?);
    pair.cluster.move_to("drbd-clone", true, secondary)?;
    pair.serves(secondary)?;
    pair.cluster.clear("drbd-clone")?;
    pair.nobody_fenced(began)
}

fn primary_killed(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    primary.power_cut()?;
    pair.serves(secondary)?;
    let fenced = pair.fenced(began)?;
    ensure!(fenced == primary.name, "{} was to be fenced, and {fenced} was", primary.name);
    Ok(())
}

fn partition(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    for link in Link::ALL {
        pair.cluster.rack.cut(link);
    }
    let fenced = pair.fenced(began)?;
    pair.cluster.rack.mend();
    ensure!(fenced == secondary.name, "the Secondary {} was to be fenced, and {fenced} was", secondary.name);
    pair.serves(primary)
}

fn replication_cut(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    pair.cluster.rack.cut(Link::Replication);
    for guest in [primary, secondary] {
        wait_device(guest, 0, "alone", |one| one.connection == "WFConnection" && one.peer_disk == "DUnknown")?;
    }
    let alone = Instant::now();
    wait::until("records on the Primary alone", SETTLE, wait::QUICK, || Ok(pair.stream.wrote(alone)))?;
    pair.cluster.rack.mend();
    wait_device(primary, 0, "in sync again", |one| one.peer_disk == "UpToDate")?;
    pair.nobody_fenced(began)
}

fn disk_fails(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    primary.volume_fail(0)?;
    wait_device(primary, 0, "without a disk", |one| one.disk == "Diskless")?;
    wait_device(secondary, 0, "the only disk", |one| one.disk == "UpToDate" && one.peer_disk == "Diskless")?;
    let without = Instant::now();
    wait::until("records through the peer's disk", SETTLE, wait::QUICK, || Ok(pair.stream.wrote(without)))?;
    pair.stream.nothing_lost(primary)?;
    primary.volume_mend(0)?;
    primary.text(&["drbdadm", "attach", R0.name])?;
    pair.nobody_fenced(began)
}

#[test]
fn a_cluster_of_guests_lives_through_everything() -> Result<()> {
    enter(Isolation::Guests(&[]), || {
        let pair = Pair::start()?;
        pair.play("planned switchover", switchover)?;
        pair.play("replication link cut", replication_cut)?;
        pair.play("failing disk of the Primary", disk_fails)?;
        pair.play("Primary killed", primary_killed)?;
        pair.play("partition", partition)
    })
}

#[test]
fn the_parts_of_a_guest() -> Result<()> {
    enter(Isolation::Guests(&[]), || {
        let tree = Path::new(STATE).join("tree");
        disk::lay_down(&tree, &[Item::file("/bin/hello", "read only")])?;
        let rack = Rack::start_with(2, &[(&tree, "/opt/tree")])?;
        parts(&rack).with_context(|| rack.dump())
    })
}

fn parts(rack: &Rack) -> Result<()> {
    let (n1, n2) = (&rack.guests[0], &rack.guests[1]);
    commands(n1)?;
    disks(n1)?;
    cables(rack, n1, n2)?;
    clients(rack)?;
    fencing(rack, n1, n2)?;
    R2.lay_down(rack)?;
    R2.up(rack)?;
    for minor in R2.minors {
        let one = device(n2, *minor)?.context("no device")?;
        ensure!(one.connection == "Connected" && one.disk == "UpToDate", "{one:?}");
    }
    n1.power_off()?;
    ensure!(!n1.is_on() && n1.text(&["true"]).is_err(), "a guest that is off obeys");
    Ok(())
}

fn commands(guest: &Guest) -> Result<()> {
    assert_eq!(guest.text(&["hostname"])?, "n1\n");
    assert_eq!(guest.run(&["false"])?.code(), Some(1));
    assert_eq!(guest.command(&["cat"]).stdin("from the host").text()?, "from the host");
    assert_eq!(guest.command(&["printenv", "NAME"]).env("NAME", "value").text()?, "value\n");
    let missing = guest.run(&["no-such-program"]).expect_err("it was started").to_string();
    assert!(missing.contains("on n1") && missing.contains("no-such-program"), "{missing}");
    let began = Instant::now();
    let slow = guest.command(&["sleep", "60"]).within(Duration::from_secs(1)).run().expect_err("it was not ended");
    assert!(slow.to_string().contains("not finished after 1.0 s"), "{slow}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let large = "0123456789abcdef".repeat(1 << 16);
    guest.write_file("/var/tmp/large", &large, 0o640, Owner::Cluster)?;
    assert_eq!(guest.read_file("/var/tmp/large")?, large);
    assert_eq!(guest.text(&["stat", "-c", "%a %U", "/var/tmp/large"])?, "640 hacluster\n");
    let lines = guest.watch(&["seq", "3"])?.into_iter().map(|line| line.text(0)).collect::<Result<Vec<_>>>()?;
    // The last is the exit status.
    assert_eq!(lines, ["1", "2", "3", "0"]);
    Ok(())
}

fn disks(guest: &Guest) -> Result<()> {
    guest.write_file("/var/lib/kept", "content", 0o600, Owner::Root)?;
    guest.write_file("/run/lost", "content", 0o600, Owner::Root)?;
    let read = || guest.run(&["dd", "if=/dev/mapper/volume1", "of=/dev/null", "count=8", "iflag=direct"]);
    assert_eq!(read()?.code(), Some(0));
    guest.volume_fail(1)?;
    let failed = read()?;
    assert!(failed.stderr.contains("Input/output error"), "{}", failed.all());
    guest.volume_mend(1)?;
    assert_eq!(read()?.code(), Some(0));
    guest.power_cut()?;
    assert!(!guest.is_on() && guest.text(&["true"]).is_err());
    guest.power_on()?;
    guest.wait_up()?;
    assert_eq!(guest.read_file("/var/lib/kept")?, "content");
    assert_eq!(guest.read_file("/opt/tree/bin/hello")?, "read only");
    assert!(guest.read_file("/run/lost").is_err());
    Ok(())
}

fn cables(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    let ping = |address: &str| n1.run(&["ping", "-c", "20", "-i", "0.02", "-W", "1", "-q", address]);
    let lost = |address: &str| -> Result<u32> {
        let output = ping(address)?.stdout;
        let percent = output.split("% packet loss").next().and_then(|text| text.rsplit([' ', ',']).next());
        percent.and_then(|text| text.parse().ok()).with_context(|| format!("ping said: {output}"))
    };
    let (ring, replication) = ("10.78.0.12", "10.79.0.12");
    assert_eq!((lost(ring)?, lost(replication)?), (0, 0));
    rack.cut(Link::Replication);
    assert_eq!((lost(ring)?, lost(replication)?), (0, 100));
    rack.mend();
    rack.switch.between(Link::Ring, 1, 2, Weather { loss: 30, delay: Duration::ZERO });
    let part = lost(ring)?;
    assert!((10..100).contains(&part), "half of the echoes were to be lost, and {part} % were");
    rack.switch.between(Link::Ring, 1, 2, Weather { loss: 0, delay: Duration::from_millis(100) });
    let output = n1.text(&["ping", "-c", "3", "-i", "0.2", "-W", "2", "-q", ring])?;
    let least = output.split("= ").nth(1).and_then(|rest| rest.split('/').next()?.parse::<f64>().ok());
    assert!(least.is_some_and(|least| (200.0..400.0).contains(&least)), "{output}");
    rack.mend();
    let carrier = |guest: &Guest| guest.text(&["cat", "/sys/class/net/eth0/carrier", "/sys/class/net/eth1/carrier"]);
    n2.cable_cut()?;
    let gone = || Ok(carrier(n2)? == "0\n0\n");
    wait::until("the carrier to go", Duration::from_secs(10), wait::TOOL, gone)?;
    assert_eq!(carrier(n1)?, "1\n1\n");
    n2.cable_mend()?;
    let back = || Ok(carrier(n2)? == "1\n1\n");
    wait::until("the carrier to come back", Duration::from_secs(10), wait::TOOL, back).map(drop)
}

/// Who is outside reaches every guest on the ring, and is reached.
fn clients(rack: &Rack) -> Result<()> {
    let _outside = Outside::start(&rack.outside)?;
    for guest in &rack.guests {
        let address = network::node_ipv4(guest.number).to_string();
        command(["ping", "-c", "2", "-i", "0.2", "-W", "2", "-q"]).arg(address).text()?;
        guest.text(&["ping", "-c", "2", "-i", "0.2", "-W", "2", "-q", &network::OBSERVER.0.to_string()])?;
    }
    Ok(())
}

fn fencing(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    let began = Instant::now();
    let fence = |by: &Guest, action: &str, target: &str| -> Result<Option<i32>> {
        Ok(by.run(&["/usr/sbin/fence_rig", "-o", action, "-n", target])?.code())
    };
    assert_eq!((fence(n1, "status", "n2")?, fence(n1, "monitor", "n2")?), (Some(0), Some(0)));
    n1.cable_cut()?;
    assert_eq!(fence(n1, "reboot", "n2")?, Some(1));
    assert!(n2.is_on(), "an order over a cut cable was obeyed");
    n1.cable_mend()?;
    rack.power.slowness(Duration::from_secs(2));
    let asked = Instant::now();
    assert_eq!(fence(n1, "reboot", "n2")?, Some(0));
    assert!(asked.elapsed() >= Duration::from_secs(2), "fencing was not slow");
    rack.power.slowness(Duration::ZERO);
    let fenced = rack.power.since(began);
    ensure!(fenced.len() == 1 && fenced[0].by == "n1" && fenced[0].target == "n2", "{fenced:#?}");
    wait::until("n2 to be back", SETTLE, wait::TOOL, || Ok(n2.is_on() && n2.text(&["true"]).is_ok())).map(drop)
}
