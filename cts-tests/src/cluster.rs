//! A Corosync and Pacemaker cluster of up to three nodes with fencing.

use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::cib::Cib;
use crate::disk::Item;
use crate::fence::Switch;
use crate::node::{Node, Owner};
use crate::pacemaker::{Pacemaker, corosync_conf};
use crate::{installed, process, wait};

/// How long the cluster may take to settle after anything these tests do to it.
pub const SETTLE: Duration = Duration::from_secs(90);

/// A cluster that has not been started.
#[derive(Debug)]
pub struct Builder {
    nodes: u8,
    interfaces: u8,
    token: Duration,
    cib: Cib,
    restart_after: Option<Duration>,
    items: Vec<Item>,
    daemons: Vec<String>,
    agents: Vec<(PathBuf, String)>,
}

impl Builder {
    /// Replaces the configuration laid down before the first start; fencing is in it already.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(Cib) -> Cib) -> Self {
        self.cib = change(self.cib);
        self
    }

    /// The totem token timeout; 1 s unless told. Below that, two loaded cores are enough for a false fencing.
    #[must_use]
    pub fn token(mut self, token: Duration) -> Self {
        self.token = token;
        self
    }

    /// Interfaces of each node; 1 unless told.
    #[must_use]
    pub fn interfaces(mut self, count: u8) -> Self {
        self.interfaces = count;
        self
    }

    /// When a fenced node gets its power back; never, with `None`. Half a second unless told.
    #[must_use]
    pub fn restart_after(mut self, delay: Option<Duration>) -> Self {
        self.restart_after = delay;
        self
    }

    /// A file that every node has on its disk.
    #[must_use]
    pub fn file(self, path: &str, content: impl Into<String>) -> Self {
        self.items([Item::file(path, content)])
    }

    /// Files, programs and links that every node has on its disk.
    #[must_use]
    pub fn items(mut self, items: impl IntoIterator<Item = Item>) -> Self {
        self.items.extend(items);
        self
    }

    /// A daemon that every node starts at every boot, before the cluster ([`Node::at_boot`]).
    #[must_use]
    pub fn at_boot(mut self, argv: &[&str]) -> Self {
        self.daemons.push(argv.join(" "));
        self
    }

    /// An agent of this workspace that every node has installed, as provider `greenarrow`.
    pub fn agent(mut self, name: &str) -> Result<Self> {
        self.agents.push((installed::agent(name)?, format!("{}/{name}", installed::PROVIDER_DIRECTORY)));
        Ok(self)
    }

    /// Switches the nodes on and starts the cluster; returns without waiting for it.
    pub fn start(self) -> Result<Cluster> {
        let began = Instant::now();
        let nodes: Vec<_> =
            (1..=self.nodes).map(|number| Node::new(number, self.interfaces).map(Arc::new)).collect::<Result<_>>()?;
        let switch = Switch::start(&nodes, self.restart_after)?;
        let mut authkey = [0; 256];
        File::open("/dev/urandom")?.read_exact(&mut authkey)?;
        for node in &nodes {
            node.power_on()?;
            self.lay_down(node, &nodes, &authkey)?;
        }
        for node in &nodes {
            node.start_cluster()?;
        }
        Ok(Cluster { pacemaker: Pacemaker { nodes, step: wait::TOOL }, switch, began })
    }

    /// What an administrator would have put on the node's disk.
    fn lay_down(&self, node: &Node, nodes: &[Arc<Node>], authkey: &[u8]) -> Result<()> {
        let hosts: String = nodes.iter().map(|node| format!("{} {}\n", node.address(), node.name)).collect();
        node.write_file("/etc/hosts", format!("127.0.0.1 localhost\n{hosts}"), 0o644, Owner::Root)?;
        node.write_file("/etc/corosync/corosync.conf", corosync_conf(nodes, self.token), 0o644, Owner::Root)?;
        node.write_file("/etc/corosync/authkey", authkey, 0o400, Owner::Root)?;
        node.write_file("/var/lib/pacemaker/cib/cib.xml", self.cib.to_xml()?, 0o600, Owner::Cluster)?;
        node.install(&installed::rig_program("fence_rig")?, "/usr/sbin/fence_rig", 0o755)?;
        node.lay_down(&self.items)?;
        for daemon in &self.daemons {
            node.at_boot(&[daemon]);
        }
        for (from, to) in &self.agents {
            node.install(from, to, 0o755)?;
        }
        Ok(())
    }
}

/// A running cluster; it ends with the namespaces of the driver.
#[derive(Debug)]
pub struct Cluster {
    pacemaker: Pacemaker<Node>,
    /// The power switch and its log.
    pub switch: Arc<Switch>,
    began: Instant,
}

/// What is asked and told about the cluster on any node, and the nodes.
impl Deref for Cluster {
    type Target = Pacemaker<Node>;

    fn deref(&self) -> &Self::Target {
        &self.pacemaker
    }
}

impl Cluster {
    /// A cluster of `nodes` (1 to 3) nodes.
    pub fn builder(nodes: u8) -> Builder {
        let names: Vec<_> = (1..=nodes).map(|number| format!("n{number}")).collect();
        Builder {
            nodes,
            interfaces: 1,
            token: Duration::from_secs(1),
            cib: Cib::fenced(&names),
            restart_after: Some(Duration::from_millis(500)),
            items: Vec::new(),
            daemons: Vec::new(),
            agents: Vec::new(),
        }
    }

    /// When the first node was switched on.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Kills a daemon of the cluster on a node, by the end of the program's path, and returns its process id.
    pub fn kill_daemon(&self, node: &Node, program: &str) -> Result<u32> {
        let found = node.processes(|argv| argv.first().is_some_and(|path| path.ends_with(program)))?;
        ensure!(found.len() == 1, "expected one {program} on {}, found {}", node.name, found.len());
        process::signal(found[0], Signal::SIGKILL)?;
        Ok(found[0])
    }

    /// Everything that helps to understand a failure, for the output of a failed test.
    pub fn dump(&self) -> String {
        let mut text =
            format!("\n== fencing: {:#?}\n== trouble: {:#?}\n", self.switch.since(self.began), self.switch.trouble());
        for node in &self.nodes {
            text += &format!("== console of {}\n{}", node.name, node.console());
        }
        text += &self.pacemaker.dump();
        text
    }
}
