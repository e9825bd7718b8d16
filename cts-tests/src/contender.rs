//! The agents that can run a pair of PostgreSQL servers, this project's and its two peers, and what each needs.
//!
//! The peers are set up as their manuals advise (PAF's quick start for Debian; heartbeat:pgsql's own description):
//! standbys reach the primary through the service address, which is why it is taken down only after the demotion.

use anyhow::{Context, Result};

use crate::cib::{Cib, Primitive, Resource, Role};
use crate::cluster::{Cluster, SETTLE};
use crate::postgres::{DIRECTORY, Server, USER};
use crate::postgres_pair::{Pair, RESOURCE, address};
use crate::subject::IP_FILE;
use crate::{network, wait};

/// An agent that is compared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// ocf:greenarrow:postgresql
    Greenarrow,
    /// ocf:heartbeat:pgsqlms, called PAF
    Paf,
    /// ocf:heartbeat:pgsql
    Pgsql,
}

/// Where heartbeat:pgsql keeps what it knows; beside the data directory, as a directory of its own must be.
pub(crate) const PGSQL_STATE: &str = "/var/lib/pg/ratmp";

impl Contender {
    /// All of them, this project's first.
    pub const ALL: [Self; 3] = [Self::Greenarrow, Self::Paf, Self::Pgsql];

    /// What it is called in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greenarrow => "postgresql",
            Self::Paf => "PAF",
            Self::Pgsql => "pgsql",
        }
    }

    /// Provider and type.
    pub fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Greenarrow => ("greenarrow", "postgresql"),
            Self::Paf => ("heartbeat", "pgsqlms"),
            Self::Pgsql => ("heartbeat", "pgsql"),
        }
    }

    /// The program in the nodes.
    pub fn path(self) -> String {
        let (provider, kind) = self.kind();
        format!("/usr/lib/ocf/resource.d/{provider}/{kind}")
    }

    /// The parameters that it is compared with: those under which nothing is lost and an old primary may come back.
    pub(crate) fn usual_parameters(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Greenarrow => &[("sync", "prefer"), ("rejoin", "rewind")],
            Self::Paf | Self::Pgsql => &[],
        }
    }

    /// Waits until what these parameters promise holds: commits wait for the standby.
    pub(crate) fn at_rest(self, pair: &Pair) -> Result<()> {
        if self != Self::Greenarrow {
            return Ok(());
        }
        let waits = || Ok(!pair.primary()?.0.sql("SHOW synchronous_standby_names")?.is_empty());
        wait::until("commits to wait for the standby", SETTLE, wait::TOOL, waits).map(drop)
    }

    /// The service address of a comparison: behind this project's agent its own primary-ips, behind the peers IPaddr2.
    pub(crate) fn follower(self) -> Primitive {
        match self {
            Self::Greenarrow => {
                let addresses = Primitive::ocf("ip", "greenarrow", "primary-ips").parameter("ip_file", IP_FILE);
                addresses.operation("monitor", "10s", "20s", None)
            }
            Self::Paf | Self::Pgsql => ipaddr2(),
        }
    }

    /// The clone with these parameters besides those that it cannot do without.
    pub(crate) fn clone_of(self, servers: &[Server], parameters: &[(&str, &str)]) -> Resource {
        let primitive = self.primitive(servers);
        let primitive = primitive.operation("monitor", "3s", "20s", Some(Role::Promoted)).operation(
            "monitor",
            "4s",
            "20s",
            Some(Role::Unpromoted),
        );
        let once = ["start", "stop", "promote", "demote", "notify"];
        let primitive = once.iter().fold(primitive, |primitive, name| primitive.operation(name, "0s", "60s", None));
        let primitive = parameters.iter().fold(primitive, |primitive, (name, value)| primitive.parameter(name, value));
        Resource::Promotable(primitive)
    }

    /// The clone, and what follows its primary.
    pub(crate) fn configuration(self, servers: &[Server], parameters: &[(&str, &str)], follower: Primitive) -> Cib {
        let (clone, follower) = (self.clone_of(servers, parameters), Resource::Plain(follower));
        let cib = Cib::default().resource(clone.clone()).resource(follower.clone());
        match self {
            Self::Greenarrow => cib.follows(&follower, &clone),
            Self::Paf | Self::Pgsql => cib.follows_until_demoted(&follower, &clone),
        }
    }

    /// The primitive with what it cannot do without.
    pub(crate) fn primitive(self, servers: &[Server]) -> Primitive {
        let (provider, kind) = self.kind();
        let primitive = Primitive::ocf(RESOURCE, provider, kind);
        let (data, home) = (&servers[0].data, servers[0].home());
        let list = |part: fn(&Server) -> String| servers.iter().map(part).collect::<Vec<_>>().join(" ");
        let primitive = primitive.parameter("pgdata", data);
        match self {
            Self::Greenarrow => primitive
                .parameter("replication_user", USER)
                .parameter("primary_hosts", &list(|server| format!("{}:{}", server.name, server.address))),
            Self::Paf => primitive
                .parameter("bindir", &format!("{DIRECTORY}/bin"))
                .parameter("pghost", home)
                .parameter("system_user", USER),
            Self::Pgsql => primitive
                .parameter("pgctl", &format!("{DIRECTORY}/bin/pg_ctl"))
                .parameter("psql", &format!("{DIRECTORY}/bin/psql"))
                .parameter("pglibs", &format!("{DIRECTORY}/lib"))
                .parameter("pgdba", USER)
                .parameter("socketdir", home)
                .parameter("logfile", &format!("{home}/server.log"))
                .parameter("tmpdir", PGSQL_STATE)
                .parameter("rep_mode", "async")
                .parameter("node_list", &list(|server| server.name.clone()))
                .parameter("master_ip", &address().to_string())
                .parameter("repuser", USER)
                .parameter("restart_on_promote", "false")
                .parameter("primary_conninfo_opt", "connect_timeout=2"),
        }
    }

    /// What an administrator does on the nodes before the resource is configured: the first server becomes the primary.
    pub(crate) fn prepare(self, servers: &[Server]) -> Result<()> {
        match self {
            Self::Greenarrow => Ok(()),
            Self::Paf => prepare_paf(servers),
            Self::Pgsql => servers.iter().try_for_each(prepare_pgsql),
        }
    }

    /// A new base backup in place of the data directory of `old`, prepared for a start as standby.
    pub fn seed(self, old: &Server, primary: &Server) -> Result<()> {
        old.command(&["rm", "-rf", &old.data])?.text()?;
        old.back_up(primary)?;
        match self {
            Self::Greenarrow => Ok(()),
            Self::Paf => {
                old.append("postgresql.conf", &conninfo(old, &address().to_string()))?;
                old.write("standby.signal", "")
            }
            Self::Pgsql => old.command(&["rm", "-f", &format!("{PGSQL_STATE}/PGSQL.lock")])?.text().map(drop),
        }
    }

    /// Takes the monitor of the service address out of the configuration: what is left is the agent's.
    pub fn without_monitor_of_the_address(cluster: &Cluster) -> Result<()> {
        cluster.tool(&["cibadmin", "--delete", "--xml-text", "<op id=\"ip-monitor-10s\"/>"]).map(drop)
    }
}

/// The service address as an IPaddr2.
pub(crate) fn ipaddr2() -> Primitive {
    Primitive::ocf("ip", "heartbeat", "IPaddr2")
        .parameter("ip", &address().to_string())
        .parameter("cidr_netmask", &network::IPV4_PREFIX.to_string())
        .operation("monitor", "10s", "20s", None)
}

/// The timeouts of replication that this project's agent sets by itself; the peers leave them to the administrator.
pub(crate) const TIMEOUTS: &str =
    "wal_receiver_timeout = '10s'\nwal_sender_timeout = '10s'\nwal_retrieve_retry_interval = '500ms'\n";

fn conninfo(server: &Server, host: &str) -> String {
    format!(
        "primary_conninfo = 'host={host} user={USER} application_name={} connect_timeout=2'\n\
         recovery_target_timeline = 'latest'\n",
        server.name
    )
}

/// PAF promotes the server that was shut down as a primary, and knows the others by their having been shut down in
/// recovery (its `pgsql_start`), so both have to have run once.
fn prepare_paf(servers: &[Server]) -> Result<()> {
    let (primary, standbys) = servers.split_first().context("no servers")?;
    for server in servers {
        server.append("postgresql.conf", &format!("{TIMEOUTS}{}", conninfo(server, &address().to_string())))?;
    }
    primary.control(&["start"])?;
    for standby in standbys {
        standby.write("standby.signal", "")?;
        let settings = standby.read("postgresql.conf")?;
        standby.append("postgresql.conf", &conninfo(standby, &primary.address))?;
        standby.control(&["start"])?;
        standby.await_streaming()?;
        standby.write("postgresql.conf", &settings)?;
    }
    primary.control(&["stop", "-m", "fast"])?;
    standbys.iter().try_for_each(|standby| standby.control(&["stop", "-m", "fast"]))
}

/// resource-agents 4.12 calls `crm_attribute -p -v -INFINITY`, which Pacemaker takes for `-N FINITY`, and a start never
/// ends; later releases name the resource, and so does this. And it runs the server by su(1), which wants a shell.
fn prepare_pgsql(server: &Server) -> Result<()> {
    server.append("postgresql.conf", TIMEOUTS)?;
    mends_for_pgsql()
        .iter()
        .try_for_each(|(change, file)| server.command(&["sed", "-i", change, file])?.text().map(drop))
}

/// What sed(1) changes in which files of a node.
pub(crate) fn mends_for_pgsql() -> [(String, &'static str); 2] {
    let attribute = r"s/crm_attribute -p \$@/crm_attribute -p ${OCF_RESOURCE_INSTANCE} $@/".to_owned();
    let shell = format!(r"s,^\({USER}:.*:\)[^:]*$,\1/bin/sh,");
    [(attribute, "/usr/lib/ocf/lib/heartbeat/ocf-shellfuncs"), (shell, "/etc/passwd")]
}
