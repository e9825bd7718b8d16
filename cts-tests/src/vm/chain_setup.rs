//! What the guests of a chain have on their disks, and what their cluster is told to run.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::chain::Agents;
use super::chain_volumes::{Volumes, place};
use super::drbd_pair::{Contender, file_system};
use super::guest::Guest;
use super::rack::Rack;
use crate::cib::{Cib, Primitive, Resource, Role};
use crate::command::command;
use crate::contender::{self, TIMEOUTS, mends_for_pgsql};
use crate::daemontools::Places;
use crate::greenarrow::standard_tree;
use crate::greenarrow_pair::{NAMES, PROGRAM};
use crate::installed::{self, PROVIDER_DIRECTORY};
use crate::isolation::STATE;
use crate::network;
use crate::node::Owner;
use crate::postgres::{HOME_IN_NODE, Place, Server, USER};
use crate::subject::ip_file;

/// The file with the addresses, where the agent expects it.
const IP_FILE: &str = "/etc/hvmail_primary_ips";

/// Two servers, made on the host, which is not emulated. The second is a copy of the first after its end: with less of the log it
/// would refuse the promotion that DRBD may bring it.
pub(super) fn databases(agents: Agents) -> Result<[Server; 2]> {
    for name in ["n1", "n2"] {
        command(["rm", "-rf", &format!("{STATE}/{name}")]).text()?;
    }
    let servers = [Server::new("n1", "127.0.0.1", Place::Here)?, Server::new("n2", "127.0.0.2", Place::Here)?];
    servers[0].initialise()?;
    if agents == Agents::Peers {
        servers[0].append("postgresql.conf", TIMEOUTS)?;
    }
    command(["cp", "-a"]).args([&servers[0].data, servers[1].home()]).text()?;
    Ok(servers)
}

/// What a guest of the chain has besides DRBD.
pub(super) fn furnish(agents: Agents, guest: &Guest, addresses: &[IpAddr]) -> Result<()> {
    match agents {
        Agents::Own { services, .. } => {
            for agent in ["postgresql", "primary-ips", "services"] {
                guest.install(&installed::agent(agent)?, &format!("{PROVIDER_DIRECTORY}/{agent}"), 0o755)?;
            }
            for name in NAMES {
                guest.install(&installed::agent(PROGRAM)?, &format!("/usr/sbin/{name}"), 0o755)?;
            }
            guest.write_file(IP_FILE, ip_file(addresses), 0o644, Owner::Root)?;
            if services {
                guest.lay_down(&standard_tree(Places::greenarrow()).items())?;
            }
        }
        Agents::Peers => {
            for (change, file) in mends_for_pgsql() {
                guest.text(&["sed", "-i", &change, file])?;
            }
        }
    }
    guest.text(&["cp", "-a", &format!("/seed/{}", guest.name), HOME_IN_NODE])?;
    guest.text(&["chown", &format!("{USER}:nogroup"), HOME_IN_NODE])?;
    guest.text(&["chmod", "700", HOME_IN_NODE])?;
    let places = format!("s,{STATE}/n1,{HOME_IN_NODE},");
    guest.text(&["sed", "-i", &places, &format!("{HOME_IN_NODE}/data/postgresql.conf")])?;
    // A power cut soon after must not take it away.
    guest.text(&["sync"]).map(drop)
}

/// The chain of the peers, with monitors as often as this project's program configures its own.
pub(super) fn of_peers(cib: Cib, servers: &[Server], addresses: &[IpAddr]) -> Cib {
    let servers: Vec<_> = servers.iter().map(|one| one.moved_to(&format!("{HOME_IN_NODE}/data"))).collect();
    let database = contender::Contender::Pgsql.primitive(&servers);
    let database = database.operation("monitor", "10s", "60s", Some(Role::Promoted)).operation(
        "monitor",
        "11s",
        "60s",
        Some(Role::Unpromoted),
    );
    let once = ["start", "stop", "promote", "demote", "notify"];
    let database = once.iter().fold(database, |database, name| database.operation(name, "0s", "120s", None));
    let address = |(number, address): (usize, &IpAddr)| {
        Primitive::ocf(&format!("ip{number}"), "heartbeat", "IPaddr2")
            .parameter("ip", &address.to_string())
            .parameter("cidr_netmask", &network::IPV4_PREFIX.to_string())
            .operation("monitor", "10s", "60s", None)
    };
    let addresses = Resource::Group("ips".to_owned(), addresses.iter().enumerate().map(address).collect());
    let (drbd, file_system) = (Contender::Linbit.clone_of_r0(), Resource::Plain(file_system()));
    let database = Resource::Promotable(database);
    let cib = [&drbd, &file_system, &database, &addresses].into_iter().cloned().fold(cib, Cib::resource);
    cib.property("priority-fencing-delay", "5s")
        .follows(&file_system, &drbd)
        .follows(&database, &file_system)
        .follows_until_demoted(&addresses, &database)
}

/// What the operator's program prints for this pair.
pub(super) fn configuration(rack: &Rack, volumes: &Volumes, services: bool) -> Result<String> {
    let mut words: Vec<String> = ["configure", "--xml", "--ip-file"].map(str::to_owned).into();
    for guest in &rack.guests {
        words.push(format!("--node={}={}", guest.name, network::node_ipv4(guest.number)));
        words.push(format!("--fence={}=fence_rig", guest.name));
    }
    words.extend(volumes.resources.iter().map(|one| format!("--drbd={}", one.name)));
    words.extend(volumes.minors().map(|minor| format!("--mount=/dev/drbd{minor}:{}:ext4", place(minor))));
    words.push(format!("--database={HOME_IN_NODE}/data"));
    words.push(format!("--set=postgresql:replication_user={USER}"));
    words.extend(services.then(|| "--services".to_owned()));
    let mut printed = command([installed::agent(PROGRAM)?]).args(words).text()?;
    // So often that one always comes between the death of a guest and its being seen: what that says must not hold up the
    // failover.
    for id in volumes.primitives() {
        let usual = format!("id=\"{id}-monitor-20s\" name=\"monitor\" interval=\"20s\"");
        ensure!(printed.contains(&usual), "no monitor of the unpromoted {id} every 20 s is printed: {printed}");
        printed = printed.replace(&usual, &usual.replace("20s", "3s"));
    }
    Ok(printed)
}
