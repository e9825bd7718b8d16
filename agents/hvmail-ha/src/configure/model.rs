//! From what is wanted to the cluster's configuration, as one value that is printed in three forms and compared with a
//! running cluster. Nothing is read here.

use anyhow::Result;

use crate::configure::agents::{Agent, Operation};
use crate::configure::options::{Fence, Mount, Options};
use crate::configure::preference::{self, Preference};

/// Two names, or a name and its value.
pub(crate) type Pair = (String, String);

/// How much a resource that runs prefers to stay. Any number above 0 keeps it from moving for nothing.
const STICKINESS: &str = "100";
/// The first node's device waits, so that of two nodes that lose each other and order the other's fencing one survives.
pub(crate) const DELAY: u64 = 5;
/// How long the fencing of a node waits on which more is active than on the other, by what `priority` says and one more
/// where it is promoted.
pub(crate) const FENCING_DELAY: &str = "priority-fencing-delay";
/// After so long without another failure the node may run the resource again.
const FORGIVEN: &str = "10min";
/// The queue is flushed while the SMTP server still answers, which is the longest part of a move where it does not. The vendor has
/// the first of them stopped before the MTA.
const FLUSHED_FIRST: &str = "hvmail-studio-worker hvmail-qmail-send";
/// ocf:heartbeat:Filesystem by its own meta-data (resource-agents 4.2 to 4.16).
const FILESYSTEM: [(&str, &str, &str); 3] = [("start", "0s", "60s"), ("stop", "0s", "60s"), ("monitor", "20s", "40s")];

/// The wanted configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) nodes: Vec<String>,
    pub(crate) fencing: bool,
    /// In seconds.
    pub(crate) fencing_delay: Option<u64>,
    pub(crate) fences: Vec<Primitive>,
    /// What makes a node Primary, each behind the one before.
    pub(crate) chain: Vec<Member>,
    /// Where a fencing device is not to run: its id and the node that it switches off.
    pub(crate) apart: Vec<Pair>,
    pub(crate) preference: Option<Preference>,
    pub(crate) colocations: Vec<Colocation>,
    pub(crate) orders: Vec<Order>,
    /// Defaults of all resources.
    pub(crate) defaults: Vec<Pair>,
    /// Id and path.
    pub(crate) alerts: Vec<Pair>,
    /// What breaks in a cluster like this without fencing.
    pub(crate) breaks: Vec<&'static str>,
}

/// A resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Primitive {
    pub(crate) id: String,
    /// `ocf` or `stonith`.
    pub(crate) standard: &'static str,
    pub(crate) provider: Option<&'static str>,
    pub(crate) kind: String,
    pub(crate) parameters: Vec<Pair>,
    pub(crate) meta: Vec<Pair>,
    pub(crate) operations: Vec<Operation>,
}

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) primitive: Primitive,
    /// The meta attributes of the promotable clone that it is in.
    pub(crate) clone: Option<Vec<Pair>>,
}

/// `dependent` only where `with` is; of a promotable clone the promoted instance is meant, on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Colocation {
    pub(crate) id: String,
    pub(crate) dependent: Place,
    pub(crate) with: Place,
}

/// `then` only after `first`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) first: Step,
    pub(crate) then: Step,
    /// Not only if both are to be done at once.
    pub(crate) mandatory: bool,
}

/// A resource in its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) promoted: bool,
}

/// An action of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) action: &'static str,
}

impl Primitive {
    /// As crm and pcs write it.
    pub(crate) fn agent(&self) -> String {
        let parts = [Some(self.standard), self.provider, Some(&self.kind)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(":")
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        value(&self.parameters, name)
    }
}

impl Member {
    /// The id by which it is moved and constrained.
    pub(crate) fn id(&self) -> String {
        let suffix = if self.clone.is_some() { "-clone" } else { "" };
        format!("{}{suffix}", self.primitive.id)
    }

    pub(crate) fn place(&self) -> Place {
        Place { id: self.id(), promoted: self.clone.is_some() }
    }

    fn step(&self) -> Step {
        Step { id: self.id(), action: if self.clone.is_some() { "promote" } else { "start" } }
    }
}

/// The value of a name.
pub(crate) fn value<'a>(pairs: &'a [Pair], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
}

impl Model {
    /// Properties of the cluster.
    pub(crate) fn properties(&self) -> Vec<Pair> {
        let delay = self.fencing_delay.map(|seconds| (FENCING_DELAY.to_owned(), format!("{seconds}s")));
        [("stonith-enabled".to_owned(), self.fencing.to_string())].into_iter().chain(delay).collect()
    }

    /// What the options ask for.
    pub(crate) fn of(options: &Options) -> Result<Self> {
        options.check()?;
        let chain = chain(options)?;
        let fences: Vec<_> = options.fences.iter().map(|one| fence(one, options)).collect();
        let alone = options.fences.iter().zip(&fences).filter(|(one, _)| one.nodes.len() == 1);
        let apart = alone.map(|(one, device)| (device.id.clone(), one.nodes[0].clone())).collect();
        let mut orders: Vec<_> = chain.windows(2).map(|pair| follows(&pair[1], &pair[0])).collect();
        orders.extend(behind_svscan(&chain));
        let colocations = chain.windows(2).map(|pair| Colocation {
            id: format!("{}-with-{}", pair[1].primitive.id, pair[0].primitive.id),
            dependent: pair[1].place(),
            with: pair[0].place(),
        });
        Ok(Self {
            nodes: options.nodes.iter().map(|node| node.name.clone()).collect(),
            fencing: !options.without_fencing,
            fencing_delay: options.fencing_delay,
            fences,
            apart,
            colocations: colocations.collect(),
            orders,
            preference: preference::of(&chain),
            chain,
            defaults: pairs([("resource-stickiness", STICKINESS)]),
            alerts: options
                .alerts
                .iter()
                .zip(1..)
                .map(|(path, number)| (format!("alert-{number}"), path.clone()))
                .collect(),
            breaks: breaks(options),
        })
    }
}

fn chain(options: &Options) -> Result<Vec<Member>> {
    let mut chain = Vec::new();
    for name in &options.drbd {
        let id = if options.drbd.len() == 1 { "drbd".to_owned() } else { format!("drbd-{}", plain(name)) };
        let own = [("drbd_resource", name.as_str())];
        let count = options.nodes.len().to_string();
        let meta = [("notify", "true"), ("clone-max", &count)];
        chain.push(promotable(&id, "drbd", &own, &meta, options)?);
    }
    for mount in &options.mounts {
        let id = filesystem_id(mount, &chain);
        chain.push(filesystem(&id, mount));
    }
    if let Some(directory) = &options.database {
        let addresses = options.nodes.iter().map(|node| Some(format!("{}:{}", node.name, node.address.as_ref()?)));
        let hosts = addresses.collect::<Option<Vec<_>>>().unwrap_or_default().join(" ");
        let own = [("pgdata", directory.as_str()), ("primary_hosts", &hosts), ("sync", "prefer"), ("rejoin", "rewind")];
        chain.push(promotable("pg", "postgresql", &own, &[("notify", "true")], options)?);
    }
    if let Some(file) = &options.ip_file {
        chain.push(promotable("ips", "primary-ips", &[("ip_file", file)], &[], options)?);
    }
    if let Some(pattern) = &options.services {
        let mut own = vec![("pattern", pattern.as_str()), ("svscan", "start")];
        // What is taken in meanwhile waits in the queue, which goes with the Primary only if it is on such a file system.
        own.extend((!options.mounts.is_empty()).then_some(("stop_first", FLUSHED_FIRST)));
        chain.push(promotable("mail", "services", &own, &[], options)?);
    }
    for follower in chain.iter_mut().skip(1) {
        // Pacemaker places the first of the chain first. Without a threshold it recovers what follows where that is, again
        // and again, however ready the other node is.
        let threshold = if follower.primitive.kind == "services" { "1" } else { "2" };
        follower.primitive.meta = pairs([("migration-threshold", threshold), ("failure-timeout", FORGIVEN)]);
    }
    if let Some(head) = chain.first_mut().filter(|_| options.fencing_delay.is_some()) {
        head.primitive.meta = pairs([("priority", "1")]);
    }
    Ok(chain)
}

/// One of this package's agents as a promotable clone. Of what is not set by name, the agent's defaults are left out.
fn promotable(
    id: &str,
    agent: &str,
    own: &[(&str, &str)],
    clone: &[(&str, &str)],
    options: &Options,
) -> Result<Member> {
    let agent = Agent::of(agent)?;
    let mut parameters: Vec<Pair> = pairs(own.iter().copied().filter(|(_, value)| !value.is_empty()));
    let default = |name: &str| agent.parameter(name).and_then(|one| one.default.as_deref());
    parameters.retain(|(name, value)| default(name) != Some(value));
    for setting in options.settings.iter().filter(|setting| setting.agent == agent.name) {
        parameters.retain(|(name, _)| *name != setting.name);
        parameters.push((setting.name.clone(), setting.value.clone()));
    }
    let primitive = Primitive {
        id: id.to_owned(),
        standard: "ocf",
        provider: Some("greenarrow"),
        kind: agent.name.to_owned(),
        parameters,
        meta: Vec::new(),
        operations: agent.operations,
    };
    Ok(Member { primitive, clone: Some(pairs([("interleave", "true")].iter().chain(clone).copied())) })
}

fn filesystem(id: &str, mount: &Mount) -> Member {
    let given = [("device", &*mount.device), ("directory", &*mount.directory), ("fstype", &*mount.kind)];
    let options = mount.options.as_deref().map(|options| ("options", options));
    let primitive = Primitive {
        id: id.to_owned(),
        standard: "ocf",
        provider: Some("heartbeat"),
        kind: "Filesystem".to_owned(),
        parameters: pairs(given.into_iter().chain(options)),
        meta: Vec::new(),
        operations: FILESYSTEM.map(|(name, interval, timeout)| Operation::new(name, interval, timeout)).into(),
    };
    Member { primitive, clone: None }
}

/// `/srv/a` and `/srv-a` are two.
fn filesystem_id(mount: &Mount, chain: &[Member]) -> String {
    let id = format!("fs-{}", plain(mount.directory.trim_matches('/')));
    let free = |id: &String| chain.iter().all(|member| member.primitive.id != *id);
    let numbered = (2..).map(|number| format!("{id}-{number}"));
    std::iter::once(id.clone()).chain(numbered).find(free).unwrap_or_default()
}

fn fence(fence: &Fence, options: &Options) -> Primitive {
    let given = |name: &str| value(&fence.parameters, name).is_some();
    let mut parameters = fence.parameters.clone();
    if !["pcmk_host_list", "pcmk_host_map", "pcmk_host_check"].into_iter().any(given) {
        parameters.push(("pcmk_host_list".to_owned(), fence.nodes.join(" ")));
    }
    let first = options.nodes.first().is_some_and(|node| fence.nodes == [node.name.clone()]);
    if first && options.nodes.len() == 2 && !given("pcmk_delay_base") && !given("pcmk_delay_max") {
        parameters.push(("pcmk_delay_base".to_owned(), format!("{DELAY}s")));
    }
    let names: Vec<_> = fence.nodes.iter().map(|node| plain(node)).collect();
    Primitive {
        id: format!("fence-{}", names.join("-")),
        standard: "stonith",
        provider: None,
        kind: fence.agent.clone(),
        parameters,
        meta: Vec::new(),
        operations: vec![Operation::new("monitor", "60s", "60s")],
    }
}

fn follows(then: &Member, first: &Member) -> Order {
    Order {
        id: format!("{}-after-{}", then.primitive.id, first.primitive.id),
        first: first.step(),
        then: then.step(),
        mandatory: true,
    }
}

/// The database under daemontools is started by a supervise, which svscan starts, which the services' agent starts. Only if
/// both are to start: a failure of the services must not take the standby's database down.
fn behind_svscan(chain: &[Member]) -> Option<Order> {
    let of = |kind: &str| chain.iter().find(|member| member.primitive.kind == kind);
    let (database, services) = (of("postgresql")?, of("services")?);
    let supervised = database.primitive.parameter("control") == Some("daemontools");
    let started = services.primitive.parameter("svscan").is_some_and(|word| word != "none");
    (supervised && started).then(|| Order {
        id: format!("{}-after-svscan", database.primitive.id),
        first: Step { id: services.id(), action: "start" },
        then: Step { id: database.id(), action: "start" },
        mandatory: false,
    })
}

/// What a cluster without fencing does when it matters.
pub(crate) fn breaks(options: &Options) -> Vec<&'static str> {
    let mut all = vec![
        "when the nodes lose sight of each other, or one of them hangs, both become Primary: both send the mail, both \
         take new mail in, and what one of them took in is thrown away afterwards",
        "a stop that fails ends there: the resource is blocked, and the other node does not take over",
        "hvmail_make_primary cannot know that a node that is gone is off: it refuses until that loss is accepted by name",
    ];
    if options.database.is_some() {
        all.push("both databases accept commits, on timelines that part; one of the two has to be thrown away");
    }
    if !options.drbd.is_empty() {
        all.push("both sides of DRBD are written to (split brain); one of the two has to be thrown away");
    }
    if !options.mounts.is_empty() {
        all.push("a file system on a device that both nodes reach is mounted twice, and destroyed");
    }
    if options.ip_file.is_some() {
        all.push("both nodes have the addresses: clients reach now the one and now the other");
    }
    all
}

fn pairs<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Pair> {
    all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A part of an id (XML 1.0, NCName).
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
#[path = "model_tests.rs"]
pub(crate) mod tests;
