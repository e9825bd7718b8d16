//! A cluster whose nodes run PostgreSQL with the agent, a service address, and a client that writes through it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cib::{Primitive, Role};
use crate::cluster::{Builder, Cluster, SETTLE};
use crate::contender::{Contender, ipaddr2};
use crate::crm_mon::Failure;
use crate::isolation::{Isolation, enter};
use crate::node::Node;
use crate::postgres::{self, HOME_IN_NODE, Place, Server, USER};
use crate::sql_writer::Writer;
use crate::subject::{IP_FILE, ip_file};
use crate::xml::Element;
use crate::{network, packages, wait};

/// The resource's id.
pub const RESOURCE: &str = "pg";
/// The clone's.
pub const CLONE: &str = "pg-clone";

/// The cluster, the servers of its nodes and the client.
#[derive(Debug)]
pub struct Pair {
    /// The agent that runs the servers.
    pub contender: Contender,
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
        Self::on(Cluster::builder(nodes), version, parameters, |_| Ok(()))
    }

    /// The same on a cluster that was prepared otherwise, with something done to each server before the cluster is told of
    /// it.
    pub fn on(
        builder: Builder,
        version: u32,
        parameters: &[(&str, &str)],
        prepare: impl Fn(&Server) -> Result<()>,
    ) -> Result<Self> {
        Self::run(Contender::Greenarrow, builder, version, parameters, ipaddr2(), prepare)
    }

    /// Two nodes whose servers are run as one agent is compared with others.
    pub fn compared(contender: Contender) -> Result<Self> {
        let builder = Cluster::builder(2).agent("primary-ips")?.file(IP_FILE, ip_file(&[address()]));
        let parameters = contender.usual_parameters();
        let pair = Self::run(contender, builder, postgres::USUAL, parameters, contender.follower(), |_| Ok(()))?;
        contender.at_rest(&pair)?;
        Ok(pair)
    }

    fn run(
        contender: Contender,
        builder: Builder,
        version: u32,
        parameters: &[(&str, &str)],
        follower: Primitive,
        prepare: impl Fn(&Server) -> Result<()>,
    ) -> Result<Self> {
        let cluster = builder.agent("postgresql")?.start()?;
        let servers = servers(version, &cluster.nodes)?;
        servers.iter().try_for_each(prepare)?;
        contender.prepare(&servers)?;
        cluster.wait_quorum(servers.len())?;
        cluster.load(&contender.configuration(&servers, parameters, follower))?;
        let writer = Writer::start(address())?;
        let pair = Self { contender, cluster, servers, writer };
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

    /// Waits until there is one primary, promoted by Pacemaker, the others stream from it on its timeline and lack nothing,
    /// the client writes, no constraint is left over, and the cluster has nothing to do.
    pub fn healthy(&self) -> Result<()> {
        wait::until("a healthy cluster", SETTLE, wait::TOOL, || Ok(self.is_healthy().unwrap_or(false)))?;
        self.cluster.wait_idle()
    }

    /// Whether it is all that at the moment, the cluster's idleness apart.
    pub fn is_healthy(&self) -> Result<bool> {
        let asked = Instant::now();
        let (primary, standbys) = self.primary()?;
        let status = self.cluster.status().context("no node answers about the cluster")?;
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name LIKE 'n_'";
        let streaming = primary.sql(sql)? == standbys.len().to_string();
        let timeline = primary.sql("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")?;
        let received = "SELECT upper(lpad(to_hex(received_tli), 8, '0')) FROM pg_stat_wal_receiver";
        let followed = standbys.iter().all(|standby| standby.sql(received).is_ok_and(|theirs| theirs == timeline));
        let unpromoted = status.in_role(RESOURCE, Role::Unpromoted).len() == standbys.len();
        let promoted = status.in_role(RESOURCE, Role::Promoted) == [primary.name.as_str()];
        let configuration = self.configuration()?;
        // The pair has none of its own; a move makes one.
        let free = configuration.all("rsc_location").is_empty() && marked(&configuration).is_empty();
        Ok(streaming && followed && unpromoted && promoted && self.writer.wrote(asked) && free)
    }

    /// The nodes that the CIB says lack something.
    pub fn lacking(&self) -> Result<Vec<String>> {
        Ok(marked(&self.configuration()?))
    }

    fn configuration(&self) -> Result<Element> {
        Element::parse(&self.cluster.tool(&["cibadmin", "--query", "--scope", "configuration"])?)
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
        // Before the action has ended an agent may not have made the score that keeps the role there.
        self.cluster.wait_idle()?;
        self.cluster.clear(CLONE)?;
        self.healthy()
    }

    /// What an administrator does with a node whose server does not come back: it is started without the cluster, gets a new
    /// base backup, and joins the cluster again.
    pub fn reseed(&self, old: &Server, primary: &Server) -> Result<()> {
        let (node, switch) = (self.cluster.node(&old.name)?, &self.cluster.switch);
        switch.restart_after(None);
        // A restart ordered before may be under way.
        std::thread::sleep(Duration::from_secs(2));
        node.power_cut()?;
        let alone = |status: &crate::crm_mon::Status| status.online() == 1;
        self.cluster.wait_status("the node to be gone", alone)?;
        self.cluster.wait_idle()?;
        node.power_on()?;
        self.contender.seed(old, primary)?;
        switch.restart_after(Some(Duration::from_millis(500)));
        node.start_cluster()?;
        self.cluster.wait_quorum(self.servers.len())?;
        self.cluster.cleanup(RESOURCE)?;
        self.healthy()
    }

    /// The server writes a thousand rows that no other receives, and its node loses its power before anybody has noticed
    /// that it writes alone: a standby that has been told so would not be promoted.
    pub fn die_with_rows_of_its_own(&self, primary: &Server) -> Result<()> {
        let node = self.cluster.node(&primary.name)?;
        node.cable_cut()?;
        primary.sql("SET synchronous_commit = local; INSERT INTO audit SELECT generate_series(-1000, -1)")?;
        node.power_cut()?;
        node.cable_mend()
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

    /// The agent's answer to a monitor at check level 10 on a node: exit status and reason.
    pub fn monitor_thoroughly(&self, server: &Server, parameters: &[(&str, &str)]) -> Result<(i32, String)> {
        let hosts: Vec<_> = self.servers.iter().map(|one| format!("{}:{}", one.name, one.address)).collect();
        let hosts = hosts.join(" ");
        let usual = [("pgdata", server.data.as_str()), ("replication_user", USER), ("primary_hosts", &hosts)];
        let clone = ["clone_max", "promoted_max", "promoted_node_max", "clone_node_max"].map(|name| (name, "1"));
        let meta = clone.into_iter().chain([("interval", "10000"), ("timeout", "20000"), ("on_node", &server.name)]);
        let command = server.command(&[&format!("{}/postgresql", crate::installed::PROVIDER_DIRECTORY), "monitor"])?;
        let command = usual
            .iter()
            .chain(parameters)
            .fold(command, |command, (name, value)| command.env(format!("OCF_RESKEY_{name}"), value));
        let command =
            meta.fold(command, |command, (name, value)| command.env(format!("OCF_RESKEY_CRM_meta_{name}"), value));
        let output = command
            .env("OCF_ROOT", "/usr/lib/ocf")
            .env("OCF_RESOURCE_INSTANCE", RESOURCE)
            .env("OCF_RESKEY_crm_feature_set", "3.16.1")
            .env("OCF_CHECK_LEVEL", "10")
            .run()?;
        let reason = output.stderr.lines().find_map(|line| line.strip_prefix("ocf-exit-reason:")).unwrap_or_default();
        Ok((output.code().context("the monitor was killed")?, reason.to_owned()))
    }

    /// What the agent has logged on a node.
    pub fn log(&self, server: &Server) -> Result<String> {
        let agent = format!("{}({RESOURCE})", self.contender.kind().1);
        let log = ["grep", "-a", &agent, "/var/log/pacemaker/pacemaker.log"];
        Ok(server.command(&log)?.run()?.stdout)
    }

    /// What helps to understand a failure: the cluster's view, and the servers' last words.
    pub fn dump(&self) -> String {
        let mut text = self.cluster.dump();
        for server in &self.servers {
            for argv in [
                &["tail", "-n", "40", "/var/log/ocf-postgresql.log"][..],
                &["grep", "-aE", "(postgresql|pgsql|pgsqlms)\\(pg\\)", "/var/log/pacemaker/pacemaker.log"],
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

/// Servers in these nodes, copies of the first; none runs.
pub fn servers(version: u32, nodes: &[Arc<Node>]) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for node in nodes {
        postgres::install(version, node)?;
        // Where the servers' libpq looks for .pgpass.
        node.text(&["sed", "-i", &format!("/^{USER}:/s|:/nonexistent:|:{HOME_IN_NODE}:|"), "/etc/passwd"])?;
        servers.push(Server::new(&node.name, &node.address().to_string(), Place::In(node.clone()))?);
    }
    let (first, others) = servers.split_first().context("no nodes")?;
    first.initialise()?;
    others.iter().try_for_each(|server| server.copy(first))?;
    Ok(servers)
}

/// The nodes that lack something.
fn marked(configuration: &Element) -> Vec<String> {
    let name = format!("{RESOURCE}-lacks");
    let marked = |node: &&&Element| node.all("nvpair").iter().any(|pair| pair.get("name") == name);
    configuration.all("node").iter().filter(marked).map(|node| node.get("uname").to_owned()).collect()
}

fn names(servers: &[&Server]) -> Vec<String> {
    servers.iter().map(|server| server.name.clone()).collect()
}
