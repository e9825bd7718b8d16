//! The cluster software on nodes or guests, as an administrator asks it and tells it what to do.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cib::Cib;
use crate::cluster::SETTLE;
use crate::command::Output;
use crate::crm_mon::Status;
use crate::node::Owner;
use crate::xml::Element;
use crate::{network, wait};

/// A server that is a member of a cluster: a node of the first rig, or a guest of the second.
pub trait Member {
    /// Host name and cluster node name.
    fn name(&self) -> &str;
    /// Corosync's node id, and the last part of its addresses.
    fn number(&self) -> u8;
    /// Whether it has power.
    fn is_on(&self) -> bool;
    /// Whether its cables are in.
    fn is_connected(&self) -> bool;
    /// Runs a command on it that has to succeed, and returns its standard output.
    fn text(&self, argv: &[&str]) -> Result<String>;
    /// Runs a command on it that may fail, within `limit`.
    fn run_within(&self, argv: &[&str], limit: Duration) -> Result<Output>;
    /// Writes a file of it with the given permission bits.
    fn write_file(&self, path: &str, content: &str, mode: u32, owner: Owner) -> Result<()>;
    /// Cuts its power.
    fn power_cut(&self) -> Result<()>;
    /// Gives it its power back, and starts what is started at boot, the cluster last.
    fn boot(&self) -> Result<()>;

    /// The address Corosync is bound to.
    fn address(&self) -> IpAddr {
        network::node_ipv4(self.number()).into()
    }
}

/// The members of a cluster, and what can be asked and told on any of them.
#[derive(Debug)]
pub struct Pacemaker<M> {
    /// The members, n1 first.
    pub nodes: Vec<Arc<M>>,
    /// How often its tools are asked for something that is waited for.
    pub step: Duration,
}

impl<M: Member> Pacemaker<M> {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Arc<M>> {
        self.nodes.iter().find(|node| node.name() == name).with_context(|| format!("no node is called {name}"))
    }

    /// A node other than `node`: with two nodes, its peer.
    pub fn peer(&self, node: &M) -> Result<&Arc<M>> {
        self.nodes.iter().find(|one| one.number() != node.number()).context("a cluster of one node has no peer")
    }

    /// A node that can be asked: one that has power and its cables.
    pub fn any(&self) -> Result<&Arc<M>> {
        let usable = |node: &&Arc<M>| node.is_on() && node.is_connected();
        self.nodes.iter().find(usable).context("every node is off or cut off")
    }

    /// What `node` believes about the cluster.
    pub fn status_of(node: &M) -> Result<Status> {
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
        wait::until(what, SETTLE, self.step, || Ok(self.status().is_some_and(|status| holds(&status))))
    }

    /// Waits until the controller has nothing left to do, seen twice in a row: between the event and the first
    /// transition it is idle too.
    pub fn wait_idle(&self) -> Result<()> {
        let mut seen = 0;
        wait::until("the cluster to become idle", SETTLE, self.step, || {
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
    pub fn standby(&self, node: &M, on: bool) -> Result<()> {
        let value = if on { "on" } else { "off" };
        self.tool(&["crm_standby", "-N", node.name(), "-v", value]).map(drop)
    }

    /// Moves a resource (the promoted role, for a promotable clone) by a location constraint.
    pub fn move_to(&self, resource: &str, promotable: bool, node: &M) -> Result<()> {
        let mut argv = vec!["crm_resource", "--move", "--resource", resource, "--node", node.name()];
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
        self.load_text(&cib.configuration()?)
    }

    /// The same with a configuration as XML.
    pub fn load_text(&self, configuration: &str) -> Result<()> {
        let node = self.any()?;
        let path = "/run/rig/load.xml";
        node.write_file(path, configuration, 0o600, Owner::Root)?;
        node.text(&["cibadmin", "--modify", "--allow-create", "--scope", "configuration", "--xml-file", path]).map(drop)
    }

    /// What the cluster's software says on each member that can be asked, for the output of a failed test.
    pub fn dump(&self) -> String {
        let commands: [&[&str]; 4] = [
            &["crm_mon", "-1Afrj"],
            &["ip", "-br", "addr"],
            &["tail", "-n", "15", "/var/log/corosync/corosync.log"],
            &["tail", "-n", "80", "/var/log/pacemaker/pacemaker.log"],
        ];
        let mut text = String::new();
        for node in &self.nodes {
            for argv in commands {
                let output = node.run_within(argv, Duration::from_secs(10));
                let shown = output.map_or_else(|error| format!("{error:#}\n"), |output| output.all());
                text += &format!("== {}: {}\n{shown}\n", node.name(), argv.join(" "));
            }
        }
        text
    }
}

/// corosync.conf(5), votequorum(5). Three nodes would add token_coefficient (650 ms) to the token.
pub fn corosync_conf<M: Member>(nodes: &[Arc<M>], token: Duration) -> String {
    let token = token.as_millis();
    let list: String = nodes
        .iter()
        .map(|node| {
            let (address, name, id) = (node.address(), node.name(), node.number());
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
