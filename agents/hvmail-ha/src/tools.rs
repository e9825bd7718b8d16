//! Pacemaker's tools: what is asked of them and told to them, each within a time of its own.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::gethostname;
use ocf::{Deadline, Output, Program};

use crate::cib::{Configuration, MOVE, STOP};
use crate::crm_mon::{FailCount, Monitored};
use crate::xml::Element;

/// An idle tool needs some milliseconds, one on a busy node a second; one that needs longer hangs.
const PATIENCE: Duration = Duration::from_secs(8);
/// What a daemon that keeps node attributes may take: nothing depends on them alone.
const PATIENCE_FOR_ATTRIBUTES: Duration = Duration::from_secs(4);
/// The exit status of a tool that finds nothing of that name (CRM_EX_NOSUCH).
const NO_SUCH: i32 = 105;
/// How attrd_updater of Pacemaker 2.1.5 ends where the attribute does not exist (CRM_EX_CONFIG).
const NOBODY_HAS_IT: i32 = 78;

/// The cluster's state.
pub(crate) fn state() -> Result<Monitored> {
    let output = run(Program::new("crm_mon").args(["--one-shot", "--output-as=xml"]), PATIENCE)?;
    Monitored::parse(&output.success("crm_mon").with_context(not_running)?.stdout)
}

/// How often resources have failed. With the operations beside them crm_mon leaves out a resource of which it has no other
/// operation to show than a probe (Pacemaker, `node_history_list`).
pub(crate) fn fail_counts() -> Result<Vec<FailCount>> {
    let words = ["--one-shot", "--output-as=xml", "--exclude=all", "--include=summary,failcounts"];
    let output = run(Program::new("crm_mon").args(words), PATIENCE)?.success("crm_mon")?;
    Ok(Monitored::parse(&output.stdout)?.counts)
}

/// The cluster's configuration.
pub(crate) fn configuration() -> Result<Configuration> {
    Configuration::parse(&configuration_text()?)
}

/// The same as it stands.
pub(crate) fn configuration_text() -> Result<String> {
    let output = run(Program::new("cibadmin").args(["--query", "--scope", "configuration"]), PATIENCE)?;
    Ok(output.success("cibadmin").with_context(not_running)?.stdout)
}

/// How many seconds ago a resource was started on a node, or became a standby there.
pub(crate) fn started(resource: &str, node: &str) -> Option<i64> {
    if [resource, node].iter().any(|name| name.contains(['\'', '"'])) {
        return None;
    }
    let operations = "lrm_rsc_op[@operation='start' or @operation='demote']";
    let xpath = format!("//node_state[@uname='{node}']//lrm_resource[@id='{resource}']/{operations}");
    let output = run(Program::new("cibadmin").args(["--query", "--xpath", &xpath]), PATIENCE).ok()?;
    let root = Element::parse(&output.success("cibadmin").ok()?.stdout).ok()?;
    // One that matches is the root itself.
    let all = if root.name == "lrm_rsc_op" { vec![&root] } else { root.all("lrm_rsc_op") };
    let at = all.into_iter().filter_map(|one| one.get("last-rc-change").parse::<i64>().ok()).max()?;
    Some(jiff::Timestamp::now().as_second() - at)
}

/// Whether the controller of that node (the DC) has something left to do.
pub(crate) fn is_at_work(dc: &str) -> bool {
    let output = run(Program::new("crmadmin").args(["--output-as=xml", &format!("--status={dc}")]), PATIENCE).ok();
    let root = output.and_then(|output| Element::parse(&output.stdout).ok()).unwrap_or_default();
    root.all("crmd").iter().any(|one| !["", "S_IDLE"].contains(&one.get("state")))
}

/// drbd.conf as drbdadm understands it. None where it is not installed or does not understand it.
pub(crate) fn drbd_dump() -> Option<String> {
    let program = Program::new("drbdadm");
    program.path()?;
    let output = run(program.args(["dump-xml"]), PATIENCE).ok()?;
    output.success("drbdadm").ok().map(|output| output.stdout)
}

fn not_running() -> String {
    "the cluster does not answer on this node: systemctl status pacemaker corosync".to_owned()
}

/// A node attribute on all nodes that have it, private ones too.
pub(crate) fn attribute(name: &str) -> Result<Vec<(String, String)>> {
    let program = Program::new("attrd_updater").args(["--output-as=xml", "--query", "--all", "--name", name]);
    let output = run(program, PATIENCE_FOR_ATTRIBUTES)?;
    if matches!(output.status.code(), Some(NO_SUCH | NOBODY_HAS_IT)) {
        return Ok(Vec::new());
    }
    let root = Element::parse(&output.success("attrd_updater")?.stdout)?;
    let pair = |one: &Element| (one.get("host").to_owned(), one.get("value").to_owned());
    Ok(root.children("attribute").map(pair).filter(|(_, value)| !value.is_empty()).collect())
}

/// This node's name in the cluster; the host's, where the cluster does not answer.
pub(crate) fn own_name() -> String {
    // Of Pacemaker 2.1's tools none says it in XML; this one prints nothing else.
    let asked = run(Program::new("crm_node").args(["--name"]), PATIENCE).and_then(|output| output.success("crm_node"));
    asked.ok().map(|output| output.stdout.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(host_name)
}

/// The host's name.
pub(crate) fn host_name() -> String {
    gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Adds to the constraints, or changes those of the same ids, all at once.
pub(crate) fn add_constraints(xml: &str) -> Result<()> {
    change(&["--modify", "--allow-create", "--scope", "constraints", "--xml-text", xml])
}

/// The same with the resources.
pub(crate) fn change_resources(xml: &str) -> Result<()> {
    change(&["--modify", "--allow-create", "--scope", "resources", "--xml-text", xml])
}

/// Takes away the constraints that this node's moves have left, or `by` another's.
pub(crate) fn remove_moves(by: &str) -> Result<()> {
    // Whole, for a node's name may begin with another's.
    remove("rsc_location", by, &format!("@id=concat('{MOVE}{by}-',@rsc)"))
}

/// Lets nodes be Primary again.
pub(crate) fn remove_stop_marks() -> Result<()> {
    remove("meta_attributes", "", &format!("starts-with(@id,'{STOP}')"))
}

/// cibadmin takes a path for dangerous; this one finds nothing but what this program wrote. None left is no error.
fn remove(element: &str, by: &str, which: &str) -> Result<()> {
    if by.contains(['\'', '"']) {
        bail!("{by:?} is no node's name");
    }
    change(&["--delete-all", "--force", "--xpath", &format!("//{element}[{which}]")])
}

fn change(words: &[&str]) -> Result<()> {
    let output = run(Program::new("cibadmin").args(words.iter().copied()), PATIENCE)?;
    if output.status.code() == Some(NO_SUCH) {
        return Ok(());
    }
    output.success("cibadmin").with_context(|| format!("the configuration was not changed ({})", words[0])).map(drop)
}

/// Sets an attribute of a node in the CIB.
pub(crate) fn set_attribute(node: &str, name: &str, value: &str) -> Result<()> {
    let words = ["--lifetime", "forever", "--node", node, "--name", name, "--update", value];
    run(Program::new("crm_attribute").args(words), PATIENCE)?.success("crm_attribute --update").map(drop)
}

/// Takes an attribute of a node out of the CIB.
pub(crate) fn forget_attribute(node: &str, name: &str) -> Result<()> {
    let words = ["--lifetime", "forever", "--node", node, "--name", name, "--delete"];
    run(Program::new("crm_attribute").args(words), PATIENCE)?.success("crm_attribute --delete").map(drop)
}

/// Forgets the failures of a resource on a node.
pub(crate) fn cleanup(resource: &str, node: &str) -> Result<()> {
    let words = ["--output-as=xml", "--cleanup", "--resource", resource, "--node", node];
    run(Program::new("crm_resource").args(words), PATIENCE * 3)?.success("crm_resource --cleanup").map(drop)
}

/// What a program says, for a reader: None where it is not installed. What it says when it fails is an answer too, unless
/// that goes to its standard error alone.
pub(crate) fn collected(argv: &[&str]) -> Result<Option<Vec<u8>>> {
    let (name, arguments) = argv.split_first().context("no program")?;
    let program = Program::new(name).args(arguments.iter().copied());
    if program.path().is_none() {
        return Ok(None);
    }
    let output = run(program, PATIENCE)?;
    if output.stdout.is_empty() && !output.status.success() {
        return output.success(name).map(|_| None);
    }
    let mut text = output.stdout;
    if !output.status.success() || text.is_empty() {
        text.extend([output.stderr, format!("{}\n", output.status)]);
    }
    Ok(Some(text.into_bytes()))
}

/// Makes the archive of a directory's child.
pub(crate) fn archive(file: &str, directory: &str, child: &str) -> Result<()> {
    let owner = ["--owner=root:0", "--group=root:0", "--mode=go-rwx"];
    let words =
        ["--create", "--gzip", "--file", file].into_iter().chain(owner).chain(["--directory", directory, child]);
    run(Program::new("tar").args(words), PATIENCE * 8)?.success("tar").map(drop)
}

fn run(program: Program, patience: Duration) -> Result<Output> {
    program.run(Deadline::after(patience))
}
