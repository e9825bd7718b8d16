//! What is compared: the interface, the file and the resources that carry the addresses.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use cts_tests::cib::{Primitive, Resource, Role};
use cts_tests::cluster::Cluster;
use cts_tests::isolation::STATE;
use cts_tests::network::{self, IPV4_PREFIX};

/// The list of a program measured outside a cluster; /run is private to the benchmark.
pub(crate) const IP_FILE: &str = "/run/ips";

/// An interface as in a node of the rig, for agents that are run without a cluster.
pub(crate) fn eth0() -> Result<()> {
    network::ip(&format!(
        "link add eth0 type veth peer name outside\nlink set outside up\nlink set eth0 up\n\
         addr add {}/{IPV4_PREFIX} brd + dev eth0\n",
        network::node_ipv4(1)
    ))
}

/// One resource for all addresses, as promotable clone or as plain resource. Its interval is the one that the agents'
/// meta-data advise.
pub(crate) fn primary_ips(ip_file: &str, duplicate_check: &str, promotable: bool) -> Resource {
    let primitive = Primitive::ocf("ips", "greenarrow", "primary-ips").parameter("ip_file", ip_file);
    let primitive = settled(primitive.parameter("duplicate_check", duplicate_check));
    if promotable {
        let primitive = primitive.operation("monitor", "10s", "30s", Some(Role::Promoted));
        Resource::Promotable(primitive.operation("monitor", "11s", "30s", Some(Role::Unpromoted)))
    } else {
        Resource::Plain(primitive.operation("monitor", "10s", "30s", None))
    }
}

/// heartbeat:IPaddr2 for one address.
pub(crate) fn ipaddr2(id: &str, address: &IpAddr) -> Primitive {
    let primitive = Primitive::ocf(id, "heartbeat", "IPaddr2").parameter("ip", &address.to_string());
    let primitive = primitive.parameter("cidr_netmask", &IPV4_PREFIX.to_string()).parameter("nic", "eth0");
    settled(primitive).operation("monitor", "10s", "30s", None)
}

/// Timeouts as advised, and no way back by itself after a move.
fn settled(primitive: Primitive) -> Primitive {
    let actions = ["start", "stop", "promote", "demote"];
    let with_timeouts = |primitive: Primitive, action: &&str| primitive.operation(action, "0s", "60s", None);
    actions.iter().fold(primitive, with_timeouts).meta("resource-stickiness", "1000")
}

/// Switches the nodes off and throws their disks away: the next cluster has nodes of the same names.
pub(crate) fn scrap(cluster: &Cluster) -> Result<()> {
    cluster.nodes.iter().try_for_each(|node| node.power_cut())?;
    for kind in ["disk", "share"] {
        let directory = Path::new(STATE).join(kind);
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}
