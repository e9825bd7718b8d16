//! What is wanted, as it was said: on the command line, in answer to questions, or by what a host or a cluster has.

use anyhow::{Context, Result, bail, ensure};

use crate::configure::agents::Agent;
use crate::configure::model::DELAY;

/// Everything that the configuration is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) nodes: Vec<Node>,
    pub(crate) fences: Vec<Fence>,
    /// No fencing is wanted, and that was said by name.
    pub(crate) without_fencing: bool,
    /// For so many seconds nobody switches the Primary off.
    pub(crate) fencing_delay: Option<u64>,
    /// DRBD resources by the name in drbd.conf.
    pub(crate) drbd: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    /// The data directory of PostgreSQL.
    pub(crate) database: Option<String>,
    /// The file with the addresses.
    pub(crate) ip_file: Option<String>,
    /// The pattern that the services match.
    pub(crate) services: Option<String>,
    pub(crate) settings: Vec<Setting>,
    /// Programs that Pacemaker calls at every event.
    pub(crate) alerts: Vec<String>,
}

/// A node, and the address by which the other node's database reaches its.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: Option<String>,
}

/// A fencing device of one node or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) nodes: Vec<String>,
    pub(crate) agent: String,
    pub(crate) parameters: Vec<(String, String)>,
}

/// A file system that is mounted where the role is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) device: String,
    pub(crate) directory: String,
    pub(crate) kind: String,
    pub(crate) options: Option<String>,
}

/// A parameter of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) agent: String,
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Options {
    /// Whether there is anything for a cluster to run.
    pub(crate) fn has_parts(&self) -> bool {
        let one = [&self.database, &self.ip_file, &self.services].iter().any(|part| part.is_some());
        one || !self.drbd.is_empty() || !self.mounts.is_empty()
    }

    /// Nodes that no device can switch off.
    pub(crate) fn unfenced(&self) -> Vec<&str> {
        let fenced = |node: &str| self.fences.iter().any(|fence| fence.nodes.iter().any(|one| one == node));
        self.nodes.iter().map(|node| node.name.as_str()).filter(|node| !fenced(node)).collect()
    }

    /// What contradicts itself.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.nodes.len() > 1, "a pair has two nodes: --node n1=192.0.2.1 --node n2=192.0.2.2");
        let names: Vec<_> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        twice("node", &names)?;
        for fence in &self.fences {
            let stranger = fence.nodes.iter().find(|node| !names.contains(&node.as_str()));
            if let Some(node) = stranger {
                bail!("--fence {node}=…: {node} is none of the nodes {}", names.join(", "));
            }
        }
        ensure!(
            self.fences.is_empty() || !self.without_fencing,
            "--fence and --without-fencing contradict each other: leave one of them out"
        );
        ensure!(
            self.fencing_delay.is_none() || !self.without_fencing,
            "--fencing-delay and --without-fencing contradict each other: leave one of them out"
        );
        ensure!(
            self.has_parts(),
            "there is nothing to run: name a part (--drbd, --mount, --database, --ip-file, --services), or --from-host"
        );
        twice("DRBD resource", &self.drbd.iter().map(String::as_str).collect::<Vec<_>>())?;
        twice("directory", &self.mounts.iter().map(|mount| mount.directory.as_str()).collect::<Vec<_>>())?;
        for setting in &self.settings {
            let there = match setting.agent.as_str() {
                "drbd" => !self.drbd.is_empty(),
                "postgresql" => self.database.is_some(),
                "primary-ips" => self.ip_file.is_some(),
                _ => self.services.is_some(),
            };
            ensure!(
                there,
                "--set {0}:{1}: there is no ocf:greenarrow:{0} among the parts",
                setting.agent,
                setting.name
            );
        }
        Ok(())
    }
}

fn twice(what: &str, names: &[&str]) -> Result<()> {
    let mut seen = Vec::new();
    for name in names {
        ensure!(!seen.contains(name), "the {what} {name} is named twice");
        seen.push(name);
    }
    Ok(())
}

/// `NAME` or `NAME=ADDRESS`.
pub(crate) fn node(text: &str) -> Result<Node> {
    let (name, address) = match text.split_once('=') {
        Some((name, address)) => (name, Some(sound(address)?.to_owned())),
        None => (text, None),
    };
    let form = || format!("{text:?}: NAME=ADDRESS is the form, such as n1=192.0.2.1");
    word(name).with_context(form)?;
    if let Some(address) = &address {
        ensure!(!address.is_empty() && !address.contains(char::is_whitespace), form());
    }
    Ok(Node { name: name.to_owned(), address })
}

/// `NODE[,NODE…]=AGENT[:NAME=VALUE,NAME=VALUE…]`; a comma in a value is written `\,`.
pub(crate) fn fence(text: &str) -> Result<Fence> {
    let form = || {
        // Without the text: a password may be in it.
        "NODE=AGENT:NAME=VALUE,NAME=VALUE is the form, such as n1=fence_ipmilan:ip=192.0.2.101,username=admin"
            .to_owned()
    };
    let (nodes, device) = text.split_once('=').with_context(form)?;
    let (agent, parameters) = device.split_once(':').unwrap_or((device, ""));
    let nodes: Vec<_> = nodes.split(',').map(str::to_owned).collect();
    for name in nodes.iter().map(String::as_str).chain([agent]) {
        word(name).with_context(form)?;
    }
    let mut all = Vec::new();
    for pair in split_at_commas(parameters) {
        let (name, value) = pair.split_once('=').with_context(form)?;
        word(name).with_context(form)?;
        all.push((name.to_owned(), sound(value)?.to_owned()));
    }
    Ok(Fence { nodes, agent: agent.to_owned(), parameters: all })
}

/// `DEVICE:DIRECTORY:TYPE[:OPTIONS]`.
pub(crate) fn mount(text: &str) -> Result<Mount> {
    let parts: Vec<_> = sound(text)?.splitn(4, ':').collect();
    let form =
        "DEVICE:DIRECTORY:TYPE is the form, such as /dev/drbd0:/srv/greenarrow:xfs, with :OPTIONS where there are some";
    let [device, directory, kind, ref rest @ ..] = parts[..] else { bail!("{text:?}: {form}") };
    ensure!(!device.is_empty() && directory.starts_with('/') && !kind.is_empty(), "{text:?}: {form}");
    let options = rest.first().filter(|options| !options.is_empty()).map(|options| (*options).to_owned());
    Ok(Mount { device: device.to_owned(), directory: directory.to_owned(), kind: kind.to_owned(), options })
}

/// `AGENT:NAME=VALUE`.
pub(crate) fn setting(text: &str) -> Result<Setting> {
    let form = || format!("{text:?}: AGENT:NAME=VALUE is the form, such as postgresql:sync=require");
    let (agent, pair) = text.split_once(':').with_context(form)?;
    let (name, value) = pair.split_once('=').with_context(form)?;
    let known = Agent::of(agent)?;
    let Some(parameter) = known.parameter(name) else {
        bail!("{text:?}: ocf:greenarrow:{agent} has no parameter {name:?} (man ocf_greenarrow_{agent})");
    };
    if parameter.distinguishes {
        bail!(
            "{text:?}: {name} is not set so, but by the option of that part (--drbd, --database, --ip-file, --services)"
        );
    }
    let [agent, name, value] = [agent, name, sound(value)?].map(str::to_owned);
    Ok(Setting { agent, name, value })
}

/// A number of seconds that is worth it.
pub(crate) fn fencing_delay(text: &str) -> Result<u64> {
    let seconds =
        text.strip_suffix('s').unwrap_or(text).parse().with_context(|| format!("{text:?} is no number of seconds"))?;
    // pacemaker-schedulerd(7): safely twice as long as the longest of the other delays.
    ensure!(
        seconds >= 2 * DELAY,
        "{seconds} s is too short: the first node's device waits {DELAY} s by itself, and a fencing takes its time; \
         {} s at least",
        2 * DELAY
    );
    Ok(seconds)
}

/// A name that can stand in every one of the three forms.
pub(crate) fn drbd(text: &str) -> Result<String> {
    word(text).map(|()| text.to_owned())
}

/// An absolute path.
pub(crate) fn path(text: &str) -> Result<String> {
    ensure!(sound(text)?.starts_with('/'), "{text:?}: an absolute path is expected");
    Ok(text.to_owned())
}

/// A value without line breaks and other control characters: crm and pcs take lines.
pub(crate) fn sound(text: &str) -> Result<&str> {
    ensure!(!text.contains(char::is_control), "a value has a control character in it; none can have one");
    Ok(text)
}

fn word(text: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_./:+@%".contains(c);
    ensure!(!text.is_empty() && text.chars().all(fits) && !text.starts_with('-'), "{text:?} is no name");
    Ok(())
}

fn split_at_commas(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' if rest.peek() == Some(&',') => part.extend(rest.next()),
            ',' => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
