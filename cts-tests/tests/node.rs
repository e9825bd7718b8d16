//! The parts of the rig one by one: isolation, a node's life and death, three nodes, the observer.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use cts_tests::address_watch::AddressWatch;
use cts_tests::cluster::Cluster;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::{Node, Owner};
use cts_tests::observer::Observer;
use cts_tests::{network, process, wait};

#[test]
fn a_private_network_has_only_lo_and_a_fresh_run() -> Result<()> {
    enter(Isolation::Network, || {
        let interfaces: Vec<_> =
            fs::read_dir("/sys/class/net")?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        assert!(interfaces.contains(&"lo".into()));
        assert!(!interfaces.contains(&"eth0".into()), "the host's interfaces are visible: {interfaces:?}");
        assert!(Path::new("/run/resource-agents").exists());
        assert!(!Path::new("/run/systemd").exists(), "/run is the host's");
        network::ip("link add inside type veth peer name other\n")?;
        assert!(Path::new("/sys/class/net/inside").exists());
        Ok(())
    })?;
    // What follows `enter` runs inside too, as the rest of the inner test, whose process is PID 1.
    assert!(std::process::id() == 1 || !Path::new("/sys/class/net/other").exists(), "the test's interface leaked");
    Ok(())
}

#[test]
fn a_panic_inside_fails_the_outer_test() {
    let result = enter(Isolation::Network, || panic!("expected: this panic belongs to the test"));
    let reason = format!("{:#}", result.expect_err("the panic got lost between the inner and the outer test"));
    assert!(reason.contains("failed (exit status: 101)"), "{reason}");
}

#[test]
fn a_node_lives_and_dies() -> Result<()> {
    enter(Isolation::Cluster(&[]), || {
        let node = Node::new(1, 2)?;
        node.power_on()?;
        assert_eq!(node.text(&["hostname"])?, "n1\n");
        assert_eq!(node.run(&["false"])?.code(), Some(1));
        assert!(node.run(&["no-such-program"]).is_err());
        let interfaces: Vec<_> = node.addresses()?.into_iter().map(|held| held.interface).collect();
        assert!(interfaces.contains(&"eth0".into()) && interfaces.contains(&"eth1".into()), "{interfaces:?}");

        let carrier = || node.text(&["cat", "/sys/class/net/eth0/carrier"]);
        assert_eq!(carrier()?, "1\n");
        node.cable_cut()?;
        assert_eq!(carrier()?, "0\n");
        node.cable_mend()?;
        wait::until("the carrier", Duration::from_secs(5), wait::QUICK, || Ok(carrier()? == "1\n"))?;

        let state = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat"));
        node.freeze()?;
        assert!(state(node.init()?)?.contains(") T "), "PID 1 of a frozen node runs");
        node.thaw()?;
        assert!(!state(node.init()?)?.contains(") T "), "PID 1 of a thawed node is stopped");

        node.write_file("/var/lib/kept", "content", 0o600, Owner::Root)?;
        node.write_file("/run/lost", "content", 0o600, Owner::Root)?;
        let init = node.init()?;
        node.power_cut()?;
        assert!(!node.is_on() && process::arguments(init).is_empty(), "processes outlived the power cut");
        assert!(!Path::new("/var/lib/kept").exists(), "the node wrote to the host's disk");
        node.power_on()?;
        assert_eq!(node.read_file("/var/lib/kept")?, "content");
        assert!(node.read_file("/run/lost").is_err());
        Ok(())
    })
}

#[test]
fn the_observer_sees_an_outage_and_the_watch_its_cause() -> Result<()> {
    enter(Isolation::Cluster(&[]), || {
        let node = Node::new(1, 1)?;
        node.power_on()?;
        let addresses = [network::service_ipv4(260), network::service_ipv6(260)].concat();
        let change = |verb: &str| -> Result<()> {
            let line = |one: &IpAddr| {
                let nodad = if verb == "add" && one.is_ipv6() { " nodad" } else { "" };
                format!("addr {verb} {} dev eth0{nodad}", network::with_prefix(*one))
            };
            let lines = addresses.iter().map(line).collect::<Vec<_>>().join("\n") + "\n";
            node.command(&["ip", "-batch", "-"])?.stdin(lines).text().map(drop)
        };
        let watch = AddressWatch::start(&node)?;
        let observer = Observer::start(&addresses, Duration::from_millis(100))?;
        let began = Instant::now();
        change("add")?;
        let up = || Ok(observer.all_answered(began).is_some());
        wait::until("520 answers", Duration::from_secs(10), wait::QUICK, up)?;
        assert!(watch.complete(began, &addresses).is_some());

        let cut = Instant::now();
        change("del")?;
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(observer.silent(cut + Duration::from_millis(500)).len(), addresses.len());
        let added = Instant::now();
        change("add")?;
        let back = || Ok(observer.all_answered(added).is_some());
        wait::until("520 answers", Duration::from_secs(10), wait::QUICK, back)?;
        assert_eq!(watch.lost(cut, &addresses).len(), addresses.len());
        let outage = observer.outage(cut, Instant::now());
        println!("an outage of about 1.1 s was seen as {outage:?}");
        assert!(outage.median > Duration::from_millis(900) && outage.worst < Duration::from_millis(1800), "{outage:?}");
        Ok(())
    })
}

#[test]
fn three_nodes_have_quorum_and_lose_it() -> Result<()> {
    enter(Isolation::Cluster(&[]), || {
        let cluster = Cluster::builder(3).restart_after(None).start()?;
        cluster.wait_quorum(3)?;
        cluster.wait_idle()?;
        let began = Instant::now();
        cluster.nodes[2].power_cut()?;
        cluster.wait_status("two nodes with quorum and the third fenced", |status| {
            let fenced = cluster.switch.since(began);
            status.quorum && status.online() == 2 && fenced.len() == 1 && fenced[0].target == "n3"
        })?;
        cluster.nodes[1].power_cut()?;
        cluster.wait_status("one node without quorum", |status| !status.quorum)?;
        Ok(())
    })
}
