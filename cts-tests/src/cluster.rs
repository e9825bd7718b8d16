//! A Corosync and Pacemaker cluster of up to three nodes with fencing.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::cib::Cib;
use crate::crm_mon::Status;
use crate::disk::Item;
use crate::fence::Switch;
use crate::node::{Node, Owner};
use crate::xml::Element;
use crate::{installed, process, wait};

/// How long the cluster may take to settle after anything these tests do to it.
pub const SETTLE: Duration = Duration::from_secs(90);

/// Prepares nodes that have power and no cluster yet.
pub type Furnish = fn(&[Arc<Node>]) -> Result<()>;

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
    furnish: Option<Furnish>,
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

    /// What is done to the nodes once they have power, before the cluster starts.
    #[must_use]
    pub fn furnish(mut self, deed: Option<Furnish>) -> Self {
        self.furnish = deed;
        self
    }

    /// Switches the nodes on and starts the cluster; returns without waiting for it.
    pub fn start(self) -> Result<Cluster> {
        let mut began = Instant::now();
        let nodes: Vec<_> =
            (1..=self.nodes).map(|number| Node::new(number, self.interfaces).map(Arc::new)).collect::<Result<_>>()?;
        let switch = Switch::start(&nodes, self.restart_after)?;
        let mut authkey = [0; 256];
        File::open("/dev/urandom")?.read_exact(&mut authkey)?;
        for node in &nodes {
            node.power_on()?;
            self.lay_down(node, &nodes, &authkey)?;
        }
        if let Some(furnish) = self.furnish {
            furnish(&nodes)?;
            // That was work of an administrator, and not part of the start.
            began = Instant::now();
        }
        for node in &nodes {
            node.start_cluster()?;
        }
        Ok(Cluster { nodes, switch, began })
    }

    /// What an administrator would have put on the node's disk.
    fn lay_down(&self, node: &Node, nodes: &[Arc<Node>], authkey: &[u8]) -> Result<()> {
        let hosts: String = nodes.iter().map(|node| format!("{} {}\n", node.address(), node.name)).collect();
        node.write_file("/etc/hosts", format!("127.0.0.1 localhost\n{hosts}"), 0o644, Owner::Root)?;
        node.write_file("/etc/corosync/corosync.conf", self.corosync_conf(nodes), 0o644, Owner::Root)?;
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

    /// corosync.conf(5), votequorum(5). Three nodes would add token_coefficient (650 ms) to the token.
    fn corosync_conf(&self, nodes: &[Arc<Node>]) -> String {
        let token = self.token.as_millis();
        let list: String = nodes
            .iter()
            .map(|node| {
                let (address, name, id) = (node.address(), &node.name, node.number);
                format!(" node {{\n  ring0_addr: {address}\n  name: {name}\n  nodeid: {id}\n }}\n")
            })
            .collect();
        let two_node = if nodes.len() == 2 { " two_node: 1\n" } else { "" };
        format!(
            "totem {{\n version: 2\n cluster_name: rig\n transport: knet\n token: {token}\n token_coefficient: 0\n \
             crypto_cipher: aes256\n crypto_hash: sha256\n}}\nnodelist {{\n{list}}}\nquorum {{\n provider: \
             corosync_votequorum\n{two_node}}}\nlogging {{\n to_stderr: no\n to_syslog: no\n to_logfile: yes\n \
             logfile: /var/log/corosync/corosync.log\n timestamp: hires\n}}\n"
        )
    }
}

/// A running cluster; it ends with the namespaces of the driver.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, n1 first.
    pub nodes: Vec<Arc<Node>>,
    /// The power switch and its log.
    pub switch: Arc<Switch>,
    began: Instant,
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
            furnish: None,
        }
    }

    /// When the first node was switched on.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node is called {name}"))
    }

    /// A node other than `node`: with two nodes, its peer.
    pub fn peer(&self, node: &Node) -> Result<&Arc<Node>> {
        self.nodes.iter().find(|one| one.number != node.number).context("a cluster of one node has no peer")
    }

    /// A node that can be asked: one that has power and its cables.
    pub fn any(&self) -> Result<&Arc<Node>> {
        let usable = |node: &&Arc<Node>| node.is_on() && node.is_connected();
        self.nodes.iter().find(usable).context("every node is off or cut off")
    }

    /// What `node` believes about the cluster.
    pub fn status_of(node: &Node) -> Result<Status> {
        Status::parse(&node.text(&["crm_mon", "-1", "--output-as=xml"])?)
    }

    /// What a node that can be asked believes; `None` while its daemons do not answer (starting, restarting).
    pub fn status(&self) -> Option<Status> {
        Self::status_of(self.any().ok()?).ok()
    }

    /// Waits until that many nodes are online with quorum.
    pub fn wait_quorum(&self, nodes: usize) -> Result<Duration> {
        let what = format!("{nodes} nodes to be online with quorum");
        self.wait_status(&what, |status| status.quorum && status.online() == nodes)
    }

    /// Waits for a state of the cluster.
    pub fn wait_status(&self, what: &str, mut holds: impl FnMut(&Status) -> bool) -> Result<Duration> {
        wait::until(what, SETTLE, wait::TOOL, || Ok(self.status().is_some_and(|status| holds(&status))))
    }

    /// Waits until the controller has nothing left to do, seen twice in a row: between the event and the first
    /// transition it is idle too.
    pub fn wait_idle(&self) -> Result<()> {
        let mut seen = 0;
        wait::until("the cluster to become idle", SETTLE, wait::TOOL, || {
            seen = if self.is_idle() { seen + 1 } else { 0 };
            Ok(seen == 2)
        })
        .map(drop)
    }

    fn is_idle(&self) -> bool {
        let controller = || -> Result<bool> {
            let Some(Status { dc: Some(dc), .. }) = self.status() else { return Ok(false) };
            let answer = self.any()?.text(&["crmadmin", "-S", &dc, "--output-as=xml"])?;
            Ok(Element::parse(&answer)?.first("crmd").is_some_and(|crmd| crmd.get("state") == "S_IDLE"))
        };
        controller().unwrap_or(false)
    }

    /// Runs a cluster tool on any usable node.
    pub fn tool(&self, argv: &[&str]) -> Result<String> {
        self.any()?.text(argv)
    }

    /// Puts a node on standby, or takes it off.
    pub fn standby(&self, node: &Node, on: bool) -> Result<()> {
        let value = if on { "on" } else { "off" };
        self.tool(&["crm_standby", "-N", &node.name, "-v", value]).map(drop)
    }

    /// Moves a resource (the promoted role, for a promotable clone) by a location constraint.
    pub fn move_to(&self, resource: &str, promotable: bool, node: &Node) -> Result<()> {
        let mut argv = vec!["crm_resource", "--move", "--resource", resource, "--node", &node.name];
        argv.extend(promotable.then_some("--promoted"));
        self.tool(&argv).map(drop)
    }

    /// Takes the constraint of [`Self::move_to`] away.
    pub fn clear(&self, resource: &str) -> Result<()> {
        self.tool(&["crm_resource", "--clear", "--resource", resource]).map(drop)
    }

    /// Forgets failures of a resource.
    pub fn cleanup(&self, resource: &str) -> Result<()> {
        self.tool(&["crm_resource", "--cleanup", "--resource", resource]).map(drop)
    }

    /// Forgets all history of a resource, so that it is probed everywhere.
    pub fn reprobe(&self, resource: &str) -> Result<()> {
        self.tool(&["crm_resource", "--refresh", "--resource", resource]).map(drop)
    }

    /// The cluster's hands off every resource, or on again.
    pub fn maintenance(&self, on: bool) -> Result<()> {
        let value = if on { "true" } else { "false" };
        self.tool(&["crm_attribute", "--name", "maintenance-mode", "--update", value]).map(drop)
    }

    /// Adds to the running configuration, or changes what has the same ids.
    pub fn load(&self, cib: &Cib) -> Result<()> {
        let node = self.any()?;
        let mut file = File::create(node.share().join("load.xml"))?;
        file.write_all(cib.configuration()?.as_bytes())?;
        let path = "/run/rig/load.xml";
        node.text(&["cibadmin", "--modify", "--allow-create", "--scope", "configuration", "--xml-file", path]).map(drop)
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
            let name = &node.name;
            text += &format!("== console of {name}\n{}", node.console());
            let commands: [&[&str]; 4] = [
                &["crm_mon", "-1Afrj"],
                &["ip", "-br", "addr"],
                &["tail", "-n", "15", "/var/log/corosync/corosync.log"],
                &["tail", "-n", "80", "/var/log/pacemaker/pacemaker.log"],
            ];
            for argv in commands {
                let output = node.command(argv).and_then(|command| command.within(Duration::from_secs(10)).run());
                let shown = output.map_or_else(|error| format!("{error:#}\n"), |output| output.all());
                text += &format!("== {name}: {}\n{}\n", argv.join(" "), shown);
            }
        }
        text
    }
}
