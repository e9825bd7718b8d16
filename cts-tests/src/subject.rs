//! What the scenarios are played with: a resource that carries addresses, and what it needs on the nodes.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::cib::{Cib, Primitive, Resource, Role};
use crate::cluster::{Cluster, Furnish};
use crate::daemontools::Places;
use crate::disk::Item;
use crate::greenarrow::{ACTIVE, standard_tree};
use crate::network::{self, IPV4_PREFIX, with_prefix};
use crate::node::Node;
use crate::postgres::{HOME_IN_NODE, Place, Server, USER, USUAL};
use crate::postgres_pair::{self, RESOURCE};
use crate::supervision::Supervision;

/// The file the addresses of a GreenArrow pair are kept in.
pub const IP_FILE: &str = "/etc/hvmail_primary_ips";

/// What has to be so, besides the addresses, while a node holds them; an error says what is not so, or not so yet.
pub type Check = fn(&Cluster, &Node) -> Result<()>;

/// A resource under test.
#[derive(Clone, Debug)]
pub struct Subject {
    /// For messages.
    pub name: &'static str,
    /// What is moved.
    pub main: Resource,
    /// What follows it, each behind the one before.
    pub followers: Vec<Resource>,
    /// The primitive that carries the addresses, and whose agent is killed.
    pub carrier: &'static str,
    /// The path of that agent.
    pub agent: &'static str,
    /// The action that brings the addresses up.
    pub activation: &'static str,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// Files on every node.
    pub items: Vec<Item>,
    /// Agents of this workspace on every node.
    pub agents: &'static [&'static str],
    /// Part of every healthy state.
    pub check: Option<Check>,
    /// What the nodes need besides before the cluster starts.
    pub furnish: Option<Furnish>,
}

impl Subject {
    /// `ocf:heartbeat:IPaddr2` with one address.
    pub fn ipaddr2() -> Self {
        let (primitive, addresses) = ipaddr2();
        Self {
            name: "ocf:heartbeat:IPaddr2",
            main: Resource::Plain(primitive),
            followers: Vec::new(),
            carrier: "ip",
            agent: "/usr/lib/ocf/resource.d/heartbeat/IPaddr2",
            activation: "start",
            addresses,
            items: Vec::new(),
            agents: &[],
            check: None,
            furnish: None,
        }
    }

    /// `ocf:pacemaker:Stateful` as promotable clone, with one IPaddr2 address wherever it is promoted.
    pub fn stateful_with_ipaddr2() -> Self {
        let stateful = roles(Primitive::ocf("stateful", "pacemaker", "Stateful"));
        Self {
            name: "ocf:pacemaker:Stateful with ocf:heartbeat:IPaddr2",
            main: Resource::Promotable(stateful),
            followers: vec![Resource::Plain(ipaddr2().0)],
            ..Self::ipaddr2()
        }
    }

    /// `ocf:greenarrow:primary-ips` as promotable clone.
    pub fn primary_ips_promotable(ipv4: u16, ipv6: u16) -> Self {
        let primitive = roles(Primitive::ocf("ips", "greenarrow", "primary-ips").parameter("ip_file", IP_FILE));
        Self {
            name: "ocf:greenarrow:primary-ips as promotable clone",
            activation: "promote",
            ..Self::primary_ips(Resource::Promotable(primitive), ipv4, ipv6)
        }
    }

    /// `ocf:greenarrow:primary-ips` as plain resource.
    pub fn primary_ips_plain(ipv4: u16, ipv6: u16) -> Self {
        let primitive = Primitive::ocf("ips", "greenarrow", "primary-ips").parameter("ip_file", IP_FILE);
        let primitive = primitive.operation("monitor", "5s", "20s", None);
        Self {
            name: "ocf:greenarrow:primary-ips as plain resource",
            ..Self::primary_ips(Resource::Plain(primitive), ipv4, ipv6)
        }
    }

    /// `ocf:greenarrow:services` behind `ocf:greenarrow:primary-ips`, both promotable clones or both plain resources, with
    /// the emulated services on every node. No svscan runs until the agent starts it.
    pub fn services_behind_primary_ips(promotable: bool, ipv4: u16, ipv6: u16) -> Self {
        // Without a threshold a failed follower stays where it is, for Pacemaker places the addresses first.
        let services = Primitive::ocf("services", "greenarrow", "services").parameter("svscan", "start");
        // supervise sees only a second after a start that a service has ended: less would prove nothing.
        let services = services.parameter("settle_time", "1500ms").meta("migration-threshold", "1");
        let mut subject = if promotable {
            Self { followers: vec![Resource::Promotable(roles(services))], ..Self::primary_ips_promotable(ipv4, ipv6) }
        } else {
            let services = services.operation("monitor", "5s", "20s", None);
            Self { followers: vec![Resource::Plain(services)], ..Self::primary_ips_plain(ipv4, ipv6) }
        };
        subject.items.extend(standard_tree(Places::greenarrow()).items());
        Self {
            name: if promotable {
                "ocf:greenarrow:services behind ocf:greenarrow:primary-ips, as promotable clones"
            } else {
                "ocf:greenarrow:services behind ocf:greenarrow:primary-ips, as plain resources"
            },
            agents: &["primary-ips", "services"],
            check: Some(services_run_only_on),
            ..subject
        }
    }

    /// The whole of a GreenArrow pair: `ocf:greenarrow:postgresql`, the addresses behind it, the services behind them. The
    /// servers of PostgreSQL have to be in their place ([`crate::postgres::put_in_place`]).
    pub fn greenarrow(ipv4: u16, ipv6: u16) -> Self {
        let inner = Self::services_behind_primary_ips(true, ipv4, ipv6);
        let hosts = [1, 2].map(|number| format!("n{number}:{}", network::node_ipv4(number))).join(" ");
        let database = Primitive::ocf(RESOURCE, "greenarrow", "postgresql")
            .parameter("pgdata", &format!("{HOME_IN_NODE}/data"))
            .parameter("replication_user", USER)
            .parameter("primary_hosts", &hosts)
            .parameter("sync", "prefer")
            .parameter("rejoin", "rewind");
        Self {
            name: "ocf:greenarrow:services behind primary-ips behind postgresql",
            followers: [vec![inner.main], inner.followers].concat(),
            main: Resource::Promotable(roles(database)),
            agents: &["primary-ips", "services", "postgresql"],
            check: Some(everything_runs),
            furnish: Some(|nodes| postgres_pair::servers(USUAL, nodes).map(drop)),
            ..inner
        }
    }

    /// With what `hvmail_ha configure` prints where a file system moves with the Primary: the queue is flushed while the SMTP server
    /// still takes mail.
    #[must_use]
    pub fn flushed_first(mut self) -> Self {
        for one in &mut self.followers {
            if let Resource::Promotable(services) = one {
                *services = services.clone().parameter("stop_first", "hvmail-studio-worker hvmail-qmail-send");
            }
        }
        self
    }

    fn primary_ips(main: Resource, ipv4: u16, ipv6: u16) -> Self {
        let addresses = [network::service_ipv4(ipv4), network::service_ipv6(ipv6)].concat();
        Self {
            main,
            carrier: "ips",
            agent: "/usr/lib/ocf/resource.d/greenarrow/primary-ips",
            items: vec![Item::file(IP_FILE, ip_file(&addresses))],
            addresses,
            agents: &["primary-ips"],
            ..Self::ipaddr2()
        }
    }

    /// The id of the primitive that is moved (of the clone's inner one, for a clone).
    pub fn primitive(&self) -> &str {
        self.main.primitive()
    }

    /// What is moved, and what follows it.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        [&self.main].into_iter().chain(&self.followers)
    }

    /// Adds the resources and their constraints to a configuration.
    pub fn configure(&self, cib: Cib) -> Cib {
        let all: Vec<_> = self.resources().collect();
        let cib = all.iter().fold(cib, |cib, resource| cib.resource((*resource).clone()));
        all.windows(2).fold(cib, |cib, pair| cib.follows(pair[1], pair[0]))
    }
}

/// The services run, and the other node's server streams from that of the holder.
fn everything_runs(cluster: &Cluster, holder: &Node) -> Result<()> {
    services_run_only_on(cluster, holder)?;
    let standby = cluster.peer(holder)?;
    let server = Server::new(&standby.name, &standby.address().to_string(), Place::In(Arc::clone(standby)))?;
    ensure!(server.streams(), "the server of {} does not stream", standby.name);
    Ok(())
}

/// The services that the agent answers for run on the holder, and none of them anywhere else.
fn services_run_only_on(cluster: &Cluster, holder: &Node) -> Result<()> {
    for node in cluster.nodes.iter().filter(|node| node.is_on()) {
        let mut running = Supervision::of(node, Places::greenarrow()).names()?;
        running.retain(|name| ACTIVE.contains(&name.as_str()));
        let expected = if node.name == holder.name { ACTIVE } else { &[] };
        ensure!(running == expected, "on {} there had to run {expected:?}, and there run {running:?}", node.name);
    }
    Ok(())
}

/// The content of an IP file with these addresses.
pub fn ip_file(addresses: &[IpAddr]) -> String {
    addresses.iter().map(|address| with_prefix(*address) + "\n").collect()
}

fn ipaddr2() -> (Primitive, Vec<IpAddr>) {
    let addresses = network::service_ipv4(1);
    let primitive = Primitive::ocf("ip", "heartbeat", "IPaddr2")
        .parameter("ip", &addresses[0].to_string())
        .parameter("cidr_netmask", &IPV4_PREFIX.to_string())
        .operation("monitor", "5s", "20s", None);
    (primitive, addresses)
}

/// Monitors for both roles; their intervals have to differ (Pacemaker Explained, "Monitoring Resources").
fn roles(primitive: Primitive) -> Primitive {
    primitive.operation("monitor", "5s", "20s", Some(Role::Promoted)).operation(
        "monitor",
        "6s",
        "20s",
        Some(Role::Unpromoted),
    )
}
