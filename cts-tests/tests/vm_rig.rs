//! The rig of virtual machines: what is used of it in every test of an agent, without one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::command::command;
use cts_tests::disk::{self, Item};
use cts_tests::isolation::{Isolation, STATE, enter};
use cts_tests::network;
use cts_tests::node::Owner;
use cts_tests::vm::cluster::Cluster;
use cts_tests::vm::drbd::{R2, device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::outside::Outside;
use cts_tests::vm::rack::Rack;
use cts_tests::vm::switch::{Link, Weather};
use cts_tests::wait;

#[test]
fn of_three_guests_two_go_on_without_the_third() -> Result<()> {
    enter(Isolation::Guests(&[]), || {
        let cluster = Cluster::start(Rack::start(3)?, |cib| cib)?;
        without_the_third(&cluster).with_context(|| cluster.dump())
    })
}

/// Two are the majority: they fence the one that cannot be heard, and it joins them again.
fn without_the_third(cluster: &Cluster) -> Result<()> {
    cluster.wait_quorum(3)?;
    cluster.wait_idle()?;
    let (began, power) = (Instant::now(), &cluster.rack.power);
    for other in [1, 2] {
        cluster.rack.switch.between(Link::Ring, other, 3, Weather::CUT);
    }
    wait::until("a fencing", SETTLE, wait::TOOL, || Ok(!power.since(began).is_empty()))?;
    cluster.rack.mend();
    cluster.wait_quorum(3)?;
    let fenced = power.since(began);
    ensure!(fenced.len() == 1 && fenced[0].target == "n3", "{fenced:#?}");
    Ok(())
}

#[test]
fn the_parts_of_a_guest() -> Result<()> {
    enter(Isolation::Guests(&[]), || {
        let tree = Path::new(STATE).join("tree");
        disk::lay_down(&tree, &[Item::file("/bin/hello", "read only")])?;
        let rack = Rack::start_with(2, 1, &[(&tree, "/opt/tree")])?;
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
