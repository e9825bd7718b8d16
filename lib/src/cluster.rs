//! What an agent tells the cluster about its node, and hears of the others: promotion score and node attributes.
//!
//! Pacemaker's tools are slow beside a monitor and may hang, so a value is sent only when it changed or when
//! pacemaker-attrd, which keeps the values, was started anew; and no failure here ever changes an action's result.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use quick_xml::events::Event;

use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::log::Log;
use crate::process::Program;
use crate::state::{Store, uptime};

/// How long a cluster tool may take; an idle one needs some milliseconds, one on a busy node a second.
const PATIENCE: Duration = Duration::from_secs(4);
/// The daemon that keeps node attributes, as the kernel shows its name.
const KEEPER: &str = "pacemaker-attrd";
/// What was sent, as `NAME=VALUE` lines below the identity of the daemon it was sent to.
const SENT: &str = "sent";
/// What the other nodes said last, below the time it was asked and the attribute's name.
const HEARD: &str = "heard";
/// CRM_EX_NOSUCH, include/crm/common/results.h.
const NO_SUCH: i32 = 105;
/// The name that stands for the promotion score among what was sent.
const SCORE: &str = "promotion score";

/// The cluster as one instance sees it.
#[derive(Debug)]
pub struct Cluster<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) store: &'a Store,
    pub(crate) log: &'a Log,
    pub(crate) deadline: Deadline,
    /// A tool has hung or failed in this action: the next one would too, and the action has other things to do.
    pub(crate) silent: &'a Cell<bool>,
}

impl Cluster<'_> {
    /// Sets the promotion score of this instance until the node's next reboot; None takes it away, and with it the
    /// instance's chance of being promoted. Does nothing outside a promotable clone that Pacemaker runs.
    pub fn promotion_score(&self, score: Option<i32>) {
        if !self.environment.promotable() {
            return;
        }
        let program = Program::new("crm_attribute").args(["--promotion", self.environment.resource()]);
        let program = match score {
            // In one word: a negative number would be taken for an option.
            Some(score) => program.args([format!("--update={score}")]),
            None => program.args(["--delete"]),
        };
        self.send(SCORE, &score.map_or_else(String::new, |score| score.to_string()), program);
    }

    /// Sets a node attribute that every node can ask for and that is never written to the CIB, so that a change of it
    /// starts no transition.
    pub fn private_attribute(&self, name: &str, value: &str) {
        let program = Program::new("attrd_updater").args(["--private", "--name", name, "--update", value]);
        self.send(name, value, program);
    }

    fn send(&self, name: &str, value: &str, program: Program) {
        if !self.environment.by_pacemaker() || self.silent.get() {
            return;
        }
        let mut sent = Sent::read(self.store);
        let Some(keeper) = sent.keeper.filter(Keeper::alive).or_else(Keeper::find) else {
            self.log.debug(&format!("{KEEPER} does not run; {name} is not sent"));
            return;
        };
        if sent.keeper != Some(keeper) {
            sent = Sent { keeper: Some(keeper), values: BTreeMap::new() };
        }
        if sent.values.get(name).is_some_and(|old| old == value) {
            return;
        }
        match self.run(program).and_then(|output| output.success("the update")) {
            Ok(_) => {
                self.log.step(&format!("{name} = {value:?} sent"));
                sent.values.insert(name.to_owned(), value.to_owned());
                if let Err(error) = self.store.write(SENT, &sent.to_text()) {
                    self.log.warning(&format!("{error:#}"));
                }
            }
            Err(error) => self.log.warning(&format!("{name} = {value:?} did not reach the cluster: {error:#}")),
        }
    }

    /// The values of a node attribute on all nodes that have it, asked for again when the last answer is older than
    /// `age`. Empty when the cluster did not answer.
    pub fn attribute_of_all(&self, name: &str, age: Duration) -> Vec<(String, String)> {
        if !self.environment.by_pacemaker() {
            return Vec::new();
        }
        let uptime = uptime();
        let kept = self.store.read(HEARD).ok().flatten().unwrap_or_default();
        let (heading, values) = kept.split_once('\n').unwrap_or_default();
        let asked = heading.split_once(' ').filter(|(_, of)| *of == name).map(|(asked, _)| asked);
        let asked = asked.and_then(|asked| asked.parse().ok()).map(Duration::from_secs);
        if asked.and_then(|asked| uptime.checked_sub(asked)).is_some_and(|old| old < age) {
            return values.lines().filter_map(|line| line.split_once('=')).map(owned).collect();
        }
        let program = Program::new("attrd_updater").args(["--output-as=xml", "--name", name, "--query", "--all"]);
        // Exit NO_SUCH: nobody has set it yet, which is an answer too.
        let answer = self.run(program).and_then(|output| attributes_in(&output.stdout));
        let of_nodes = answer.map(|found| found.into_iter().filter_map(|(node, value)| Some((node?, value))).collect());
        let values = of_nodes.unwrap_or_else(|error| {
            self.log.debug(&format!("{name} of the other nodes is not known: {error:#}"));
            Vec::new()
        });
        let mut text = format!("{} {name}\n", uptime.as_secs());
        for (node, value) in &values {
            let _ = writeln!(text, "{node}={value}");
        }
        if let Err(error) = self.store.write(HEARD, &text) {
            self.log.warning(&format!("{error:#}"));
        }
        values
    }

    /// Writes an attribute of `node` into the CIB, where it outlives every reboot, or takes it away. For facts that must
    /// not be lost with the node that found them; a change of it starts a transition.
    pub fn lasting_attribute(&self, node: &str, name: &str, value: Option<&str>) -> Result<()> {
        if !self.environment.by_pacemaker() || !cluster_runs() {
            return Ok(());
        }
        let deed = value.map_or_else(|| "--delete".to_owned(), |value| format!("--update={value}"));
        let program =
            Program::new("crm_attribute").args(["--lifetime", "forever", "--node", node, "--name", name, &deed]);
        self.run(program).and_then(|output| output.success("crm_attribute")).map(drop).with_context(|| {
            format!("{name} of node {node} could not be {}", value.map_or("taken away", |_| "written"))
        })
    }

    /// What the CIB says of such an attribute; None: nothing.
    pub fn lasting_attribute_of(&self, node: &str, name: &str) -> Result<Option<String>> {
        if !self.environment.by_pacemaker() || !cluster_runs() {
            return Ok(None);
        }
        let words = ["--output-as=xml", "--lifetime", "forever", "--node", node, "--name", name, "--query"];
        let output = self.run(Program::new("crm_attribute").args(words))?;
        if output.status.code() == Some(NO_SUCH) {
            return Ok(None);
        }
        let answer = output.success("crm_attribute").and_then(|output| attributes_in(&output.stdout));
        let values = answer.with_context(|| format!("{name} of node {node} is not known"))?;
        Ok(values.into_iter().next().map(|(_, value)| value))
    }

    /// Whether the cluster has lost `node` and has not fenced it yet: it may be at work still, and may be the one that fences.
    pub fn is_unclean(&self, node: &str) -> Result<bool> {
        if !self.environment.by_pacemaker() || !cluster_runs() {
            return Ok(false);
        }
        let words = ["--one-shot", "--output-as=xml", "--exclude=all", "--include=nodes"];
        let output = self.run(Program::new("crm_mon").args(words))?;
        let answer = output.success("crm_mon").and_then(|output| unclean_in(&output.stdout, node));
        answer.with_context(|| format!("whether the cluster has lost node {node} is not known"))
    }

    /// Forgets what was sent and heard: a stopped instance has said nothing.
    pub fn forget(&self) {
        for kind in [SENT, HEARD] {
            if let Err(error) = self.store.remove(kind) {
                self.log.warning(&format!("{error:#}"));
            }
        }
    }

    fn run(&self, program: Program) -> Result<crate::process::Output> {
        if self.silent.get() {
            bail!("the cluster did not answer before");
        }
        // Settings such as PCMK_ipc_type decide how the tools reach the daemons.
        let settings = self.environment.starting_with("PCMK_");
        let program = settings.fold(program, |program, (name, value)| program.variable(name, value));
        let output = program.run(self.deadline.at_most(PATIENCE.min(self.deadline.remaining() / 2)));
        self.silent.set(output.is_err());
        output
    }
}

fn owned((node, value): (&str, &str)) -> (String, String) {
    (node.to_owned(), value.to_owned())
}

/// The `host`, which crm_attribute leaves out, and the `value` of each `<attribute>` in the XML of Pacemaker's tools.
fn attributes_in(xml: &str) -> Result<Vec<(Option<String>, String)>> {
    let found = elements_in(xml, "attribute", ["host", "value"])?.into_iter();
    Ok(found.filter_map(|[host, value]| Some((host, value?))).collect())
}

/// Whether crm_mon's list has the node as unclean (crm_mon-2.XX.rng, attribute `unclean` of `<node>`).
fn unclean_in(xml: &str, node: &str) -> Result<bool> {
    let nodes = elements_in(xml, "node", ["name", "unclean"])?;
    let own = nodes.into_iter().find(|[name, unclean]| name.as_deref() == Some(node) && unclean.is_some());
    let [_, unclean] = own.with_context(|| format!("the cluster has no node {node}"))?;
    Ok(unclean.as_deref() == Some("true"))
}

/// Two attributes of each element of this name.
fn elements_in(xml: &str, tag: &str, names: [&str; 2]) -> Result<Vec<[Option<String>; 2]>> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut found = Vec::new();
    loop {
        let element = match reader.read_event().context("the answer is not XML")? {
            Event::Start(element) | Event::Empty(element) => element,
            Event::Eof => return Ok(found),
            _ => continue,
        };
        if element.name().as_ref() != tag {
            continue;
        }
        let text = |name: &str| -> Result<Option<String>> {
            let Some(attribute) = element.try_get_attribute(name)? else { return Ok(None) };
            Ok(Some(attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0)?.into_owned()))
        };
        found.push([text(names[0])?, text(names[1])?]);
    }
}

/// Whether any of Pacemaker's daemons runs here: pacemakerd, and pacemaker-execd or pacemaker-remoted, which start actions.
/// Where none does, somebody runs an action by hand as Pacemaker would, and there is no CIB to be asked.
fn cluster_runs() -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.into_iter().any(|name| name.starts_with("pacemaker"))
}

/// A running pacemaker-attrd: process id and start time, which no other process of this boot has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Keeper {
    pid: u32,
    started: u64,
}

impl Keeper {
    fn find() -> Option<Self> {
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find_map(Self::at)
    }

    fn at(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: started_if_keeper(&stat)? })
    }

    fn alive(&self) -> bool {
        Self::at(self.pid) == Some(*self)
    }
}

/// Fields 2 and 22 of proc_pid_stat(5). The name in parentheses may hold anything, so what follows is found from behind.
fn started_if_keeper(stat: &str) -> Option<u64> {
    let (before, after) = stat.rsplit_once(") ")?;
    let (_, name) = before.split_once(" (")?;
    if name == KEEPER { after.split(' ').nth(19)?.parse().ok() } else { None }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    keeper: Option<Keeper>,
    values: BTreeMap<String, String>,
}

impl Sent {
    fn read(store: &Store) -> Self {
        store.read(SENT).ok().flatten().map_or_else(Self::default, |text| Self::from_text(&text))
    }

    /// What cannot be read was not sent: sending again does no harm.
    fn from_text(text: &str) -> Self {
        let mut lines = text.lines();
        let keeper = lines
            .next()
            .and_then(|line| line.split_once(' '))
            .and_then(|(pid, started)| Some(Keeper { pid: pid.parse().ok()?, started: started.parse().ok()? }));
        Self { keeper, values: lines.filter_map(|line| line.split_once('=')).map(owned).collect() }
    }

    fn to_text(&self) -> String {
        let mut text = self.keeper.map_or_else(String::new, |keeper| format!("{} {}", keeper.pid, keeper.started));
        for (name, value) in &self.values {
            let _ = write!(text, "\n{name}={value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_attrd_updater_are_read() {
        let xml = "<pacemaker-result api-version=\"2.25\" request=\"attrd_updater\">\n\
                   <attribute name=\"ips-list\" value=\"5:a&lt;b\" host=\"n1\"/>\
                   <attribute name=\"ips-list\" value=\"\" host=\"n2\"></attribute><attribute name=\"x\"/>\n\
                   <status code=\"0\" message=\"OK\"/></pacemaker-result>";
        let expected = [(Some("n1".to_owned()), "5:a<b".to_owned()), (Some("n2".to_owned()), String::new())];
        assert_eq!(attributes_in(xml).unwrap(), expected);
        assert!(attributes_in("<a b='").is_err());
        assert_eq!(attributes_in("Could not query value").unwrap(), []);
    }

    #[test]
    fn answers_of_crm_attribute_are_read() {
        let xml = "<pacemaker-result api-version=\"2.25\" request=\"crm_attribute\">\n\
                   <attribute name=\"pg-lacks\" value=\"n1\" scope=\"nodes\"/><status code=\"0\" message=\"OK\"/></pacemaker-result>";
        assert_eq!(attributes_in(xml).unwrap(), [(None, "n1".to_owned())]);
    }

    #[test]
    fn answers_of_crm_mon_are_read() {
        let xml = "<pacemaker-result api-version=\"2.25\" request=\"crm_mon\"><nodes>\
                   <node name=\"n1\" id=\"1\" online=\"true\" unclean=\"false\"/>\
                   <node name=\"n2\" id=\"2\" online=\"false\" unclean=\"true\"/></nodes></pacemaker-result>";
        assert_eq!(["n1", "n2"].map(|node| unclean_in(xml, node).unwrap()), [false, true]);
        assert!(unclean_in(xml, "n3").is_err() && unclean_in("crm_mon: Connection failed", "n1").is_err());
    }

    #[test]
    fn a_process_is_known_by_name_and_start_time() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(started_if_keeper(&format!("12 (pacemaker-attrd) {rest}")), Some(4711));
        assert_eq!(started_if_keeper(&format!("12 (x) (pacemaker-attrd) {rest}")), None);
        assert_eq!(started_if_keeper("12 (pacemaker-attrd) S 1"), None);
        assert_eq!(started_if_keeper(""), None);
    }

    #[test]
    fn what_was_sent_survives_the_file() {
        let values = BTreeMap::from([(SCORE.to_owned(), "100".to_owned()), ("a".to_owned(), "x=y".to_owned())]);
        let sent = Sent { keeper: Some(Keeper { pid: 7, started: 9 }), values };
        assert_eq!(Sent::from_text(&sent.to_text()), sent);
        assert_eq!(Sent::from_text("garbage\n\0\n"), Sent::default());
    }
}
