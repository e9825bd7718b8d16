//! What this host has: defaults for a configuration, and what could not be seen.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::configure::agents::Agent;
use crate::configure::found::Found;
use crate::configure::options::{Mount, Node, Options, Setting};
use crate::xml::Element;

/// Files of these kinds are short; of a longer one the beginning would be worth nothing.
const LARGEST: u64 = 4 << 20;
/// `include` may lead in a circle.
const DEEPEST: usize = 8;
/// Options of fstab that are for whoever mounts at boot, and not for the kernel.
const NOT_FOR_MOUNT: [&str; 7] = ["defaults", "auto", "noauto", "nofail", "_netdev", "user", "users"];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) options: Options,
    /// What was taken, and from where.
    pub(crate) seen: Vec<String>,
    pub(crate) unseen: Vec<String>,
}

/// Looks below `root`. `dump` is what `drbdadm dump-xml` printed, `cluster` the configuration of a running cluster.
pub(crate) fn look(root: &Path, dump: Option<&str>, cluster: Option<&Found>) -> Result<Host> {
    let mut host = Host::default();
    nodes(root, cluster, &mut host);
    drbd(root, dump, &mut host)?;
    mounts(root, &mut host);
    greenarrow(root, &mut host)?;
    Ok(host)
}

fn nodes(root: &Path, cluster: Option<&Found>, host: &mut Host) {
    let named = |nodes: &[Node]| nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>().join(", ");
    let path = root.join("etc/corosync/corosync.conf");
    let listed = read(&path).map(|text| corosync_nodes(&text));
    match (&listed, cluster) {
        (Ok(nodes), _) if nodes.len() > 1 => {
            host.seen.push(format!("nodes {} from {}", named(nodes), path.display()));
            host.options.nodes.clone_from(nodes);
        }
        (_, Some(found)) if found.nodes.len() > 1 => {
            let nodes: Vec<_> = found.nodes.iter().map(|name| Node { name: name.clone(), address: None }).collect();
            host.seen.push(format!("nodes {} from the running cluster, without addresses", named(&nodes)));
            host.options.nodes = nodes;
        }
        _ => {
            let why = listed.err().map_or_else(|| "it names no two nodes".to_owned(), |error| format!("{error:#}"));
            host.unseen.push(format!("the nodes: {}: {why}; and no cluster answers here", path.display()));
        }
    }
}

/// `nodelist { node { ring0_addr: ADDRESS name: NAME } … }` (corosync.conf(5)).
fn corosync_nodes(text: &str) -> Vec<Node> {
    let (mut nodes, mut section) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_suffix('{') {
            section.push(name.trim());
            if section == ["nodelist", "node"] {
                nodes.push(Node::default());
            }
        } else if line == "}" {
            section.pop();
        } else if let (["nodelist", "node"], Some((name, value)), Some(node)) =
            (section.as_slice(), line.split_once(':'), nodes.last_mut())
        {
            match name.trim() {
                "name" => value.trim().clone_into(&mut node.name),
                "ring0_addr" => node.address = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    // A node without a name has that of its host, which is not known here.
    nodes.retain(|node| !node.name.is_empty());
    nodes
}

fn drbd(root: &Path, dump: Option<&str>, host: &mut Host) -> Result<()> {
    let path = root.join("etc/drbd.conf");
    let (names, source) = if let Some(dump) = dump {
        let root = Element::parse(dump).context("drbdadm dump-xml did not answer in XML")?;
        let names = root.children("resource").map(|one| one.get("name").to_owned()).collect();
        (names, "drbdadm dump-xml".to_owned())
    } else if path.exists() {
        let mut names = Vec::new();
        drbd_resources(root, &path, DEEPEST, &mut names)?;
        (names, path.display().to_string())
    } else {
        (Vec::new(), String::new())
    };
    if !names.is_empty() {
        host.seen.push(format!("DRBD {} from {source}", names.join(", ")));
    }
    host.options.drbd = names;
    Ok(())
}

/// The names of `resource NAME { … }` in a file and what it includes (drbd.conf(5)).
fn drbd_resources(root: &Path, path: &Path, depth: usize, names: &mut Vec<String>) -> Result<()> {
    ensure!(depth > 0, "{}: includes lead deeper than {DEEPEST} files; does one include itself?", path.display());
    let text = read(path).with_context(|| path.display().to_string())?;
    for (line, number) in text.lines().zip(1..) {
        let words = line.split('#').next().unwrap_or_default().replace('{', " { ").replace(';', " ");
        let mut words = words.split_whitespace();
        let place = || format!("{}: line {number}: {line:?}", path.display());
        match (words.next(), words.next()) {
            (Some("resource"), Some(name)) if name != "{" => names.push(name.trim_matches('"').to_owned()),
            (Some("resource"), _) => {
                bail!("{}: the name of the resource is missing; resource NAME {{ is the form", place())
            }
            (Some("include"), Some(pattern)) => {
                let pattern = pattern.trim_matches('"');
                for file in included(root, path, pattern).with_context(place)? {
                    drbd_resources(root, &file, depth - 1, names)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The files of `DIRECTORY/PREFIX*SUFFIX`, by name; of a path without a star that file.
fn included(root: &Path, from: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let beside = from.parent().unwrap_or(root);
    let path = pattern.strip_prefix('/').map_or_else(|| beside.join(pattern), |absolute| root.join(absolute));
    let (directory, name) = (path.parent().unwrap_or(beside), path.file_name().unwrap_or_default().to_string_lossy());
    let Some((prefix, suffix)) = name.split_once('*') else { return Ok(vec![path.clone()]) };
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let fits = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix)
    };
    files.retain(fits);
    files.sort();
    Ok(files)
}

/// File systems on DRBD: as fstab has them, else as they are mounted.
fn mounts(root: &Path, host: &mut Host) {
    for name in ["etc/fstab", "proc/mounts"] {
        let path = root.join(name);
        let Ok(text) = read(&path) else {
            host.unseen.push(format!("file systems in {}", path.display()));
            continue;
        };
        for mount in drbd_mounts(&text) {
            if host.options.mounts.iter().any(|one| one.directory == mount.directory) {
                continue;
            }
            let options = mount.options.as_deref().unwrap_or_default().split(',');
            let (loud, own): (Vec<_>, Vec<_>) =
                options.partition(|one| NOT_FOR_MOUNT.contains(one) || one.starts_with("x-") || one.is_empty());
            host.seen.push(format!("{} on {} from {}", mount.device, mount.directory, path.display()));
            if name == "etc/fstab" && !loud.contains(&"noauto") {
                let (device, file) = (&mount.device, path.display());
                host.seen.push(format!("{file} mounts {device} at boot: add noauto there, the cluster mounts it"));
            }
            // What the kernel shows of a mounted one are its defaults too.
            let options = Some(own.join(",")).filter(|own| name == "etc/fstab" && !own.is_empty());
            host.options.mounts.push(Mount { options, ..mount });
        }
    }
}

/// The lines of fstab(5) or proc_mounts(5) whose device is DRBD's.
fn drbd_mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let mut fields = line.split_whitespace().map(|field| field.replace("\\040", " "));
        let (device, directory, kind) = (fields.next()?, fields.next()?, fields.next()?);
        let drbd = device.starts_with("/dev/drbd") && directory.starts_with('/');
        drbd.then(|| Mount { device, directory, kind, options: fields.next() })
    };
    text.lines().filter_map(mount).collect()
}

fn greenarrow(root: &Path, host: &mut Host) -> Result<()> {
    let default = |agent: &str, name: &str| -> Result<String> {
        Ok(Agent::of(agent)?.parameter(name).and_then(|one| one.default.clone()).unwrap_or_default())
    };
    let there = |path: &str| root.join(path).symlink_metadata().is_ok();
    if there("var/hvmail/postgres/default") {
        host.options.database = Some(default("postgresql", "pgdata")?);
        host.seen.push("the database from /var/hvmail/postgres/default".to_owned());
        if there("service/hvmail-postgres") {
            let [agent, name, value] = ["postgresql", "control", "daemontools"].map(str::to_owned);
            host.options.settings.push(Setting { agent, name, value });
            host.seen.push("control=daemontools of the database from /service/hvmail-postgres".to_owned());
        }
    }
    if there("etc/hvmail_primary_ips") {
        host.options.ip_file = Some(default("primary-ips", "ip_file")?);
        host.seen.push("the addresses from /etc/hvmail_primary_ips".to_owned());
    } else {
        host.unseen.push("/etc/hvmail_primary_ips: there is none, and without it no addresses move".to_owned());
    }
    if there("var/hvmail") {
        host.options.services = Some(default("services", "pattern")?);
        host.seen.push("the services from /var/hvmail".to_owned());
        host.unseen.extend(astray(root, &host.options.mounts));
    } else {
        host.unseen.push("/var/hvmail: no GreenArrow is installed here".to_owned());
    }
    Ok(())
}

/// Persisted directories (GreenArrow's Persistence Path Mode: links in /var/hvmail) that are on none of the mounts.
fn astray(root: &Path, mounts: &[Mount]) -> Option<String> {
    if mounts.is_empty() {
        return None;
    }
    let entries = fs::read_dir(root.join("var/hvmail")).ok()?.flatten();
    let target = |entry: fs::DirEntry| Some((entry.path(), fs::read_link(entry.path()).ok()?));
    let moves = |target: &Path| target.is_relative() || mounts.iter().any(|mount| target.starts_with(&mount.directory));
    let lost = entries.filter_map(target).filter(|(_, target)| !moves(target) && !target.starts_with("/var/hvmail"));
    let mut lost: Vec<_> = lost.map(|(link, target)| format!("{} -> {}", link.display(), target.display())).collect();
    lost.sort();
    (!lost.is_empty()).then(|| format!("these lead to none of the file systems, and do not move: {}", lost.join(", ")))
}

fn read(path: &Path) -> Result<String> {
    let facts = fs::metadata(path)?;
    // /proc has no sizes.
    ensure!(facts.is_file() && facts.len() <= LARGEST, "not a file of at most {LARGEST} bytes");
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
