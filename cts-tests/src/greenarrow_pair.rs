//! A whole GreenArrow pair: PostgreSQL, the addresses and the services, each following the one before, with the operator's
//! programs on both nodes and clients outside.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cib::{Cib, Role};
use crate::cluster::{Cluster, SETTLE};
use crate::command::Output;
use crate::contender::Contender;
use crate::greenarrow::SMTP;
use crate::isolation::{Isolation, enter};
use crate::node::{Node, Owner};
use crate::observer::Observer;
use crate::port_watch::PortWatch;
use crate::postgres::{self, Place, Server, USUAL};
use crate::postgres_pair::address;
use crate::sql_writer::Writer;
use crate::subject::{IP_FILE, Subject};
use crate::{installed, packages, wait};

/// The operator's program.
pub const PROGRAM: &str = "hvmail_ha";

/// The names it is called by.
pub const NAMES: [&str; 3] = [PROGRAM, "hvmail_make_primary", "hvmail_make_secondary"];

/// The agents of the pair and the operator's program, by package.
pub const PACKAGES: &[&str] = &["postgresql", "primary-ips", "services", "hvmail-ha"];

/// The promotion score of a standby that streams.
const STREAMS: i64 = 50;

/// How long one run of a program may take.
const RUN: Duration = Duration::from_secs(120);

/// The cluster, its servers and the clients.
#[derive(Debug)]
pub struct Pair {
    /// The cluster.
    pub cluster: Cluster,
    /// The databases, that of n1 first.
    pub servers: Vec<Server>,
    /// A client of the database, through the first address.
    pub writer: Writer,
    /// A client of the SMTP server at the same address.
    pub mail: PortWatch,
    /// One who pings all the addresses.
    pub pings: Observer,
    /// The promotable primitives, the first of which the others follow.
    roles: [&'static str; 3],
}

/// Nodes with their software, servers, services and a quorum, and whatever configuration they were started with.
#[derive(Debug)]
pub struct Bare {
    /// The cluster.
    pub cluster: Cluster,
    /// The databases, that of n1 first; copies of one another, none of which runs.
    pub servers: Vec<Server>,
    subject: Subject,
}

/// Runs `body` isolated, with a pair.
pub fn with_pair(body: impl FnOnce(&Pair) -> Result<()>) -> Result<()> {
    with_nodes(2, body)
}

/// The same with so many nodes: a primary and the others.
pub fn with_nodes(nodes: u8, body: impl FnOnce(&Pair) -> Result<()>) -> Result<()> {
    isolated(|| {
        let pair = Pair::start(nodes)?;
        body(&pair).with_context(|| pair.cluster.dump())
    })
}

/// Runs `body` isolated, with a cluster of two that has no configuration but how long a controller waits at its start.
pub fn with_bare(body: impl FnOnce(Bare) -> Result<()>) -> Result<()> {
    isolated(|| body(Bare::start(2, |_| Cib::default().property("dc-deadtime", "1s"))?))
}

fn isolated(body: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::process::id() != 1 {
        packages::require(packages::CLUSTER)?;
        postgres::tree(USUAL)?;
    }
    enter(Isolation::Cluster(PACKAGES), || {
        postgres::put_in_place(USUAL)?;
        body()
    })
}

impl Bare {
    /// Starts the nodes, with `configure` for what is laid down before.
    pub fn start(nodes: u8, configure: impl FnOnce(Cib) -> Cib) -> Result<Self> {
        let subject = Subject::services_behind_primary_ips(true, 3, 1).flushed_first();
        let builder = Cluster::builder(nodes).configure(configure).items(subject.items.iter().cloned());
        let mut builder = builder.agent("postgresql")?;
        for agent in subject.agents {
            builder = builder.agent(agent)?;
        }
        let cluster = builder.start()?;
        let mut servers = Vec::new();
        for node in &cluster.nodes {
            postgres::install(USUAL, node)?;
            for name in NAMES {
                node.install(&installed::agent(PROGRAM)?, &format!("/usr/sbin/{name}"), 0o755)?;
            }
            servers.push(Server::new(&node.name, &node.address().to_string(), Place::In(node.clone()))?);
        }
        servers[0].initialise()?;
        let (first, others) = servers.split_first().context("no nodes")?;
        others.iter().try_for_each(|other| other.copy(first))?;
        cluster.wait_quorum(servers.len())?;
        Ok(Self { cluster, servers, subject })
    }

    /// The configuration that the operator's program prints for it, with what differs from GreenArrow's usual places; `more` says
    /// in which form, and what else there is.
    pub fn printed(&self, more: &[&str]) -> Result<Output> {
        let mut words: Vec<String> = [PROGRAM, "configure", "--services"].map(str::to_owned).into();
        words.push(format!("--ip-file={IP_FILE}"));
        for node in &self.cluster.nodes {
            words.push(format!("--node={}={}", node.name, node.address()));
            words.push(format!("--fence={0}=fence_rig:plug={0}", node.name));
        }
        words.push(format!("--database={}", self.servers[0].data));
        words.push(format!("--set=postgresql:replication_user={}", postgres::USER));
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.cluster.nodes[0].run(&words)
    }

    /// Applies it as its own heading says.
    pub fn apply(&self, printed: &str) -> Result<()> {
        let (node, command) = (&self.cluster.nodes[0], "cibadmin -M -c -o configuration -x FILE");
        ensure!(printed.contains(command), "{command:?} is not in {printed}");
        node.write_file("/run/rig/pair.xml", printed, 0o600, Owner::Root)?;
        let command = command.replace("FILE", "/run/rig/pair.xml");
        node.text(&command.split(' ').collect::<Vec<_>>()).map(drop)
    }

    /// With clients, once somebody has configured it; waits until all is up.
    pub fn configured(self, roles: [&'static str; 3]) -> Result<Pair> {
        let Self { cluster, servers, subject } = self;
        let mail = PortWatch::start(SocketAddr::new(address(), SMTP), Duration::from_millis(50))?;
        let pings = Observer::start(&subject.addresses, Duration::from_millis(50))?;
        let pair = Pair { writer: Writer::start(address())?, cluster, servers, mail, pings, roles };
        pair.healthy().with_context(|| pair.cluster.dump())?;
        Ok(pair)
    }
}

impl Pair {
    /// Starts the nodes and waits until all is up.
    pub fn start(nodes: u8) -> Result<Self> {
        let bare = Bare::start(nodes, |cib| cib)?;
        let parameters = [("sync", "prefer"), ("rejoin", "rewind"), ("use_slots", "yes")];
        let database = Contender::Greenarrow.clone_of(&bare.servers, &parameters);
        let cib = Cib::default().resource(database.clone());
        let cib = bare.subject.configure(cib).follows(&bare.subject.main, &database);
        bare.cluster.load(&cib)?;
        bare.configured(["pg", "ips", "services"])
    }

    /// The node that everything is promoted on, while nothing is under way and the clients are served.
    pub fn primary(&self) -> Result<&Node> {
        let status = self.cluster.status().context("no node answers about the cluster")?;
        let asked = Instant::now();
        let promoted: Vec<_> = self.roles.iter().map(|one| status.in_role(one, Role::Promoted)).collect();
        ensure!(promoted.iter().all(|nodes| nodes.len() == 1 && nodes == &promoted[0]), "promoted: {promoted:?}");
        let standbys = self.cluster.nodes.iter().filter(|node| node.is_on()).count() - 1;
        let unpromoted = |one: &&str| status.in_role(one, Role::Unpromoted).len() == standbys;
        ensure!(self.roles.iter().all(unpromoted), "not unpromoted somewhere: {:?}", status.instances);
        let served = || Ok(self.writer.wrote(asked) && self.mail.answered_since(asked).is_some());
        wait::until("the clients to be served", Duration::from_secs(5), wait::QUICK, served)?;
        Ok(self.cluster.node(promoted[0][0])?)
    }

    /// Waits until there is a primary and a standby that could take over.
    pub fn healthy(&self) -> Result<&Node> {
        let there = || Ok(self.primary().is_ok_and(|primary| self.could_be_followed(primary)));
        wait::until("a healthy pair", SETTLE, wait::TOOL, there)?;
        self.cluster.wait_idle()?;
        self.primary()
    }

    /// Whether the agent has told of every standby's database that it streams: it is the first monitor that does.
    fn could_be_followed(&self, primary: &Node) -> bool {
        let Some(status) = self.cluster.status() else { return false };
        let score =
            |(name, value): &(String, String)| (name == "master-pg").then(|| value.parse::<i64>().ok()).flatten();
        let mut standbys = status.nodes.iter().filter(|node| node.online && node.name != primary.name);
        standbys.all(|node| node.attributes.iter().find_map(score).is_some_and(|score| score >= STREAMS))
    }

    /// The server of a node.
    pub fn server(&self, node: &Node) -> Result<&Server> {
        self.servers.iter().find(|one| one.name == node.name).context("a node without a server")
    }

    /// How many of the rows that were acknowledged the primary does not have.
    pub fn lost_rows(&self) -> Result<usize> {
        let acknowledged = self.writer.acknowledged();
        let rows = self.server(self.healthy()?)?.sql("SELECT id FROM audit WHERE id > 0")?;
        let there: BTreeSet<u64> = rows.lines().filter_map(|row| row.parse().ok()).collect();
        Ok(acknowledged.difference(&there).count())
    }

    /// Runs one of the operator's programs on a node.
    pub fn run(&self, node: &Node, argv: &[&str]) -> Result<Output> {
        node.command(argv)?.within(RUN).run()
    }

    /// The ids of all constraints that are not of the configuration, and of the sets of meta attributes that only the
    /// operator's programs write.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let cib = crate::xml::Element::parse(&self.cluster.tool(&["cibadmin", "--query"])?)?;
        let locations = cib.all("rsc_location").into_iter().map(|one| one.get("id").to_owned());
        let sets = cib.all("meta_attributes").into_iter().map(|one| one.get("id").to_owned());
        Ok(locations.chain(sets.filter(|id| id.starts_with("hvmail-"))).collect())
    }
}

/// Carries out what a program has printed as the remedy: its commands that begin so.
pub fn carry_out(node: &Node, printed: &Output, command: &str) -> Result<()> {
    let parts = printed.stdout.lines().flat_map(|line| line.split("; "));
    let all: Vec<_> = parts.filter_map(|part| part.find(command).map(|at| part[at..].trim())).collect();
    ensure!(!all.is_empty(), "no {command:?} in:\n{}", printed.stdout);
    all.iter().try_for_each(|one| node.text(&one.split(' ').collect::<Vec<_>>()).map(drop))
}

/// The program ended with this status, and said all of this.
pub fn ends(output: &Output, status: i32, words: &[&str]) -> Result<()> {
    let said = output.all();
    ensure!(output.code() == Some(status), "{status} was expected: {}: {said}", output.status);
    // On a screen a sentence goes on in the next line, below its column.
    let flowing = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        ensure!(flowing.contains(word), "{word:?} is not said in:\n{said}");
    }
    Ok(())
}
