//! The DRBD resources of this node: what the kernel module says of them (drbdsetup-events2(8)), and drbd.conf.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ocf::{Deadline, Program};

use crate::xml::Element;

/// drbdsetup waits for a lock of the module that a role change may hold.
const PATIENCE: Duration = Duration::from_secs(15);

/// A resource with one peer, as far as a split brain goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) role: String,
    /// The worst of its connections: StandAlone, Connecting, Connected.
    pub(super) connection: String,
    pub(super) peer: u32,
    pub(super) volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) number: u32,
    pub(super) minor: u32,
    pub(super) disk: String,
    /// KiB.
    pub(super) size: u64,
    /// What happens between the data here and there.
    pub(super) replication: String,
    /// KiB that were written here since there is no connection.
    pub(super) out_of_sync: u64,
}

impl Resource {
    pub(super) fn stands_alone(&self) -> bool {
        self.connection == "StandAlone"
    }

    pub(super) fn out_of_sync(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.out_of_sync).sum()
    }

    /// Each volume's generation: the current one, and the one that it has in common with the peer, 0 where nothing was written
    /// without that (drbd_int.h, `enum drbd_uuid_index`).
    pub(super) fn generations(&self) -> Result<Vec<(String, String)>> {
        self.volumes.iter().map(|volume| self.generation(volume)).collect()
    }

    fn generation(&self, volume: &Volume) -> Result<(String, String)> {
        let words = if module()?.starts_with("8.") {
            vec!["get-gi".to_owned(), volume.minor.to_string()]
        } else {
            vec!["get-gi".to_owned(), self.name.clone(), self.peer.to_string(), volume.number.to_string()]
        };
        let output =
            Program::new("drbdsetup").args(words).run(Deadline::after(PATIENCE))?.success("drbdsetup get-gi")?;
        generation(&output.stdout).with_context(|| format!("drbdsetup get-gi says {:?}", output.stdout.trim()))
    }

    /// Whether something was written on this node without the peer.
    pub(super) fn wrote_alone(&self) -> Result<bool> {
        Ok(self.generations()?.iter().any(|(_, bitmap)| !bitmap.trim_start_matches('0').is_empty()))
    }
}

/// The two generations that count, without the lowest bit, which says who is Primary.
fn generation(text: &str) -> Option<(String, String)> {
    let mut words = text.trim().split(':').map(|word| (word.len() == 16).then_some(word));
    let mut next = || {
        let number = u64::from_str_radix(words.next()??, 16).ok()?;
        Some(format!("{:016X}", number & !1))
    };
    Some((next()?, next()?))
}

/// The module's version.
fn module() -> Result<String> {
    let text = std::fs::read_to_string("/proc/drbd").context("the DRBD module is not loaded")?;
    let version = text.lines().find_map(|line| line.strip_prefix("version: ")).unwrap_or_default();
    Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Those that have parted from their peer: DRBD has given up the connection; or this node is Secondary, waits for its peer, and
/// has written without it, so that the other will not have it.
pub(super) fn parted() -> Result<Vec<Resource>> {
    // Asked while the module is not loaded, drbdsetup would load it.
    if !Path::new("/proc/drbd").exists() {
        return Ok(Vec::new());
    }
    let waits = |one: &Resource| one.connection == "Connecting" && one.role == "Secondary";
    let mut all = Vec::new();
    for one in look()? {
        if one.stands_alone() || (waits(&one) && one.wrote_alone()?) {
            all.push(one);
        }
    }
    Ok(all)
}

/// The resource as it is now.
pub(super) fn again(name: &str) -> Result<Resource> {
    look()?.into_iter().find(|one| one.name == name).with_context(|| format!("{name} is not up any more"))
}

fn look() -> Result<Vec<Resource>> {
    let words = ["events2", "--now", "--statistics"];
    let output = Program::new("drbdsetup").args(words).run(Deadline::after(PATIENCE))?.success("drbdsetup events2")?;
    read(&output.stdout)
}

/// A line an object, `exists -` last.
fn read(text: &str) -> Result<Vec<Resource>> {
    let mut all: Vec<Resource> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("exists") {
            continue;
        }
        let kind = words.next().unwrap_or_default();
        if kind == "-" {
            return Ok(all);
        }
        let fields: Vec<_> = words.filter_map(|word| word.split_once(':')).collect();
        let word = |name: &str| fields.iter().find(|(one, _)| *one == name).map_or("", |(_, value)| value).to_owned();
        let number = |name: &str| word(name).parse::<u64>().unwrap_or_default();
        let small = |name: &str| u32::try_from(number(name)).unwrap_or_default();
        if kind == "resource" {
            all.push(Resource { name: word("name"), role: word("role"), ..Resource::default() });
        }
        let Some(resource) = all.iter_mut().find(|one| one.name == word("name")) else { continue };
        match kind {
            "connection" if !resource.stands_alone() => {
                (resource.connection, resource.peer) = (word("connection"), small("peer-node-id"));
            }
            "device" => resource.volumes.push(Volume {
                number: small("volume"),
                minor: small("minor"),
                disk: word("disk"),
                size: number("size"),
                ..Volume::default()
            }),
            "peer-device" => {
                let of = |one: &&mut Volume| one.number == small("volume");
                if let Some(volume) = resource.volumes.iter_mut().find(of) {
                    volume.out_of_sync = volume.out_of_sync.max(number("out-of-sync"));
                    volume.replication = word("replication");
                }
            }
            _ => {}
        }
    }
    bail!("drbdsetup events2 did not end with \"exists -\": what it said is not whole")
}

/// The hosts of a resource by drbd.conf.
pub(super) fn hosts(name: &str) -> Result<Vec<String>> {
    let output = adm(&["dump-xml", name])?;
    in_configuration(&output, name)
}

fn in_configuration(text: &str, name: &str) -> Result<Vec<String>> {
    let root = Element::parse(text).context("drbdadm dump-xml did not answer in XML")?;
    // Asked for one resource, drbdadm prints just that.
    let resource = if root.name == "resource" { Some(&root) } else { root.all("resource").into_iter().next() };
    let hosts = resource.map(|one| one.children("host").filter_map(|host| host.text("name")).collect::<Vec<_>>());
    hosts.filter(|hosts| !hosts.is_empty()).with_context(|| format!("drbd.conf has no hosts of {name}"))
}

/// The disks below a resource's volumes, in their order.
pub(super) fn disks(name: &str) -> Result<Vec<PathBuf>> {
    Ok(adm(&["sh-ll-dev", name])?.lines().map(|line| PathBuf::from(line.trim())).collect())
}

/// drbdadm, which must succeed; its output.
pub(super) fn adm(words: &[&str]) -> Result<String> {
    let what = format!("drbdadm {}", words.join(" "));
    let output = Program::new("drbdadm").args(words.iter().copied()).run(Deadline::after(PATIENCE * 2))?;
    Ok(output.success(&what)?.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURED: &str = include_str!("../../../drbd/captures/split-brain-n2.events2");

    #[test]
    fn a_real_split_brain_is_read() {
        let all = read(CAPTURED).unwrap();
        assert_eq!((all.len(), all[0].name.as_str(), all[0].role.as_str()), (1, "r0", "Secondary"));
        assert!(all[0].stands_alone());
        assert_eq!((all[0].out_of_sync(), all[0].volumes[0].size), (4, 65_496));
        let connected = read(include_str!("../../../drbd/captures/connected-primary-secondary-n1.events2")).unwrap();
        assert!(!connected[0].stands_alone());
        assert!(read("exists resource name:r0 role:Primary\n").is_err());
    }

    #[test]
    fn the_generations_that_count_are_the_first_two() {
        let one = generation(include_str!("../../../drbd/captures/split-brain-n1.gi")).unwrap();
        let two = generation(include_str!("../../../drbd/captures/split-brain-n2.gi")).unwrap();
        assert_eq!((one.1.as_str(), one.1 == two.1, one.0 == two.0), ("3682DBBF7D89251E", true, false));
        for text in ["", ":", "x:y", "6130C155C08A041B", "6130C155C08A041B:1"] {
            assert_eq!(generation(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_hosts_are_those_of_drbd_conf() {
        // drbdadm dump-xml r0 of drbd-utils 9.22, shortened.
        let one = "<resource name=\"r0\" conf-file-line=\"/etc/drbd.d/r0.res:1\"><host name=\"n1\">\
                   <address family=\"ipv4\" port=\"7788\">10.79.0.11</address></host><host name=\"n2\"/>\
                   <connection><host name=\"n1\"/><host name=\"n2\"/></connection></resource>";
        for text in [one, include_str!("../../../drbd/captures/dump.xml")] {
            assert_eq!(in_configuration(text, "r0").unwrap(), ["n1", "n2"]);
        }
        assert!(in_configuration("<config file=\"/etc/drbd.conf\"/>", "r0").is_err());
    }
}
