//! A cluster whose nodes run PostgreSQL with the agent, a service address, and a client that writes through it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cib::{Cib, Primitive, Resource, Role};
use crate::cluster::{Cluster, SETTLE};
use crate::crm_mon::Failure;
use crate::isolation::{Isolation, enter};
use crate::postgres::{self, Place, Server, USER};
use crate::sql_writer::Writer;
use crate::{network, packages, wait};

/// The resource's id.
pub const RESOURCE: &str = "pg";
/// The clone's.
pub const CLONE: &str = "pg-clone";

/// The cluster, the servers of its nodes and the client.
#[derive(Debug)]
pub struct Pair {
    /// The cluster.
    pub cluster: Cluster,
    /// The servers, that of n1 first.
    pub servers: Vec<Server>,
    /// Writes all the time.
    pub writer: Writer,
}

/// Runs `body` isolated, with servers of `version` in their place for the client too.
pub fn with_cluster(version: u32, body: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::process::id() != 1 {
        packages::require(packages::CLUSTER)?;
        postgres::tree(version)?;
    }
    enter(Isolation::Cluster(&["postgresql"]), || {
        postgres::put_in_place(version)?;
        body()
    })
}

impl Pair {
    /// Starts `nodes` nodes whose servers are copies of one, with these parameters of the agent, and waits until one is
    /// promoted and the others stream.
    pub fn start(version: u32, nodes: u8, parameters: &[(&str, &str)]) -> Result<Self> {
        let cluster = Cluster::builder(nodes).agent("postgresql")?.start()?;
        let mut servers = Vec::new();
        for node in &cluster.nodes {
            postgres::install(version, node)?;
            servers.push(Server::new(&node.name, &node.address().to_string(), Place::In(node.clone()))?);
        }
        servers[0].initialise()?;
        for server in &servers[1..] {
            server.copy(&servers[0])?;
        }
        cluster.wait_quorum(nodes.into())?;
        cluster.load(&configuration(&servers, parameters))?;
        let writer = Writer::start(address())?;
        let pair = Self { cluster, servers, writer };
        pair.healthy().with_context(|| pair.dump())?;
        Ok(pair)
    }

    /// Plays a scenario, and explains its failure.
    pub fn play(&self, name: &str, scenario: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let began = Instant::now();
        scenario(self).with_context(|| format!("scenario `{name}`{}", self.dump()))?;
        let (outage, took) = (self.writer.outage(began), began.elapsed());
        println!("{name}: outage {:.2} s ({:.1} s)", outage.as_secs_f64(), took.as_secs_f64());
        Ok(())
    }

    /// The one server that accepts writes, and the others.
    pub fn primary(&self) -> Result<(&Server, Vec<&Server>)> {
        let accepts = |server: &&Server| server.sql("SELECT NOT pg_is_in_recovery()").is_ok_and(|answer| answer == "t");
        let (primaries, others): (Vec<_>, Vec<_>) = self.servers.iter().partition(accepts);
        ensure!(primaries.len() == 1, "one primary is expected, found {:?}", names(&primaries));
        Ok((primaries[0], others))
    }

    /// Waits until there is one primary, promoted by Pacemaker, the others stream from it on its timeline, the client
    /// writes, and the cluster has nothing to do.
    pub fn healthy(&self) -> Result<()> {
        wait::until("a healthy cluster", SETTLE, wait::TOOL, || Ok(self.is_healthy().unwrap_or(false)))?;
        self.cluster.wait_idle()
    }

    fn is_healthy(&self) -> Result<bool> {
        let asked = Instant::now();
        let (primary, standbys) = self.primary()?;
        let status = self.cluster.status().context("no node answers about the cluster")?;
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name LIKE 'n_'";
        let streaming = primary.sql(sql)? == standbys.len().to_string();
        let unpromoted = status.in_role(RESOURCE, Role::Unpromoted).len() == standbys.len();
        let promoted = status.in_role(RESOURCE, Role::Promoted) == [primary.name.as_str()];
        Ok(streaming && unpromoted && promoted && self.writer.wrote(asked))
    }

    /// Every row that was acknowledged before the call has to be there; how many are not.
    pub fn lost(&self) -> Result<usize> {
        let acknowledged = self.writer.acknowledged();
        let rows = self.primary()?.0.sql("SELECT id FROM audit WHERE id > 0")?;
        let there = rows.lines().map(|row| Ok(row.parse()?)).collect::<Result<std::collections::BTreeSet<u64>>>()?;
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        if !lost.is_empty() {
            println!("{} of {} acknowledged rows are lost: {lost:?}", lost.len(), acknowledged.len());
        }
        Ok(lost.len())
    }

    /// Moves the promoted role to the node of `server`, without leaving a constraint.
    pub fn promote(&self, server: &Server) -> Result<()> {
        let began = Instant::now();
        self.cluster.move_to(CLONE, true, self.cluster.node(&server.name)?)?;
        let there = || Ok(self.primary().is_ok_and(|(primary, _)| primary.name == server.name));
        wait::until(&format!("{} to be the primary", server.name), SETTLE, wait::TOOL, there)?;
        println!("  promoted {} after {:.2} s", server.name, began.elapsed().as_secs_f64());
        self.cluster.clear(CLONE)?;
        self.healthy()
    }

    /// The server of the node of that name.
    pub fn server(&self, name: &str) -> Result<&Server> {
        self.servers.iter().find(|server| server.name == name).with_context(|| format!("no node is called {name}"))
    }

    /// The failures of the agent that Pacemaker shows; none while its daemons do not answer.
    pub fn failures(&self) -> Vec<Failure> {
        let failures = self.cluster.status().map(|status| status.failures).unwrap_or_default();
        failures.into_iter().filter(|failure| failure.operation.starts_with(RESOURCE)).collect()
    }

    /// Sets a parameter of the agent.
    pub fn set(&self, parameter: &str, value: &str) -> Result<()> {
        let words = ["crm_resource", "--resource", RESOURCE, "--set-parameter", parameter, "--parameter-value", value];
        self.cluster.tool(&words).map(drop)
    }

    /// What the agent has logged on a node.
    pub fn log(&self, server: &Server) -> Result<String> {
        let log = ["grep", "-a", "postgresql(pg)", "/var/log/pacemaker/pacemaker.log"];
        Ok(server.command(&log)?.run()?.stdout)
    }

    /// What helps to understand a failure: the cluster's view, and the servers' last words.
    pub fn dump(&self) -> String {
        let mut text = self.cluster.dump();
        for server in &self.servers {
            for argv in [
                &["tail", "-n", "40", "/var/log/ocf-postgresql.log"][..],
                &["grep", "-a", "postgresql(pg)", "/var/log/pacemaker/pacemaker.log"],
                &["ls", "-la", &server.data],
            ] {
                let output = server.command(argv).and_then(|command| command.within(Duration::from_secs(10)).run());
                let shown = output.map_or_else(|error| format!("{error:#}"), |output| output.all());
                text += &format!("== {}: {}\n{shown}\n", server.name, argv.join(" "));
            }
        }
        text
    }
}

/// The service address, which follows the primary.
pub fn address() -> IpAddr {
    network::service_ipv4(1)[0]
}

/// The clone of these servers.
pub fn clone_of(servers: &[Server], parameters: &[(&str, &str)]) -> Resource {
    let hosts: Vec<_> = servers.iter().map(|server| format!("{}:{}", server.name, server.address)).collect();
    let primitive = Primitive::ocf(RESOURCE, "greenarrow", "postgresql")
        .parameter("pgdata", &servers[0].data)
        .parameter("replication_user", USER)
        .parameter("primary_hosts", &hosts.join(" "))
        .operation("monitor", "3s", "20s", Some(Role::Promoted))
        .operation("monitor", "4s", "20s", Some(Role::Unpromoted));
    let once = ["start", "stop", "promote", "demote", "notify"];
    let primitive = once.iter().fold(primitive, |primitive, name| primitive.operation(name, "0s", "60s", None));
    let primitive = parameters.iter().fold(primitive, |primitive, (name, value)| primitive.parameter(name, value));
    Resource::Promotable(primitive)
}

fn configuration(servers: &[Server], parameters: &[(&str, &str)]) -> Cib {
    let clone = clone_of(servers, parameters);
    let follower = Primitive::ocf("ip", "heartbeat", "IPaddr2")
        .parameter("ip", &address().to_string())
        .parameter("cidr_netmask", &network::IPV4_PREFIX.to_string())
        .operation("monitor", "10s", "20s", None);
    let follower = Resource::Plain(follower);
    Cib::default().resource(clone.clone()).resource(follower.clone()).follows(&follower, &clone)
}

fn names(servers: &[&Server]) -> Vec<String> {
    servers.iter().map(|server| server.name.clone()).collect()
}
