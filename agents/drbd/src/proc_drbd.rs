//! /proc/drbd: the module's version, and with 8.4 the state of each minor (`drbd_proc.c`). It is there while the module is.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use crate::model::{Connection, Disk, Peer, PeerVolume, Replication, Resource, Role, Volume, shown};

pub(crate) const PATH: &str = "/proc/drbd";

/// A version, as it is compared: major, minor, patch.
pub(crate) type Version = (u32, u32, u32);

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ProcDrbd {
    pub(crate) version: Option<Version>,
    /// By minor; empty with DRBD 9.
    pub(crate) devices: BTreeMap<u32, Device>,
}

/// A minor of 8.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// The connection, or what happens over it.
    pub(crate) connection: String,
    pub(crate) suspended: bool,
    pub(crate) role: Role,
    pub(crate) peer_role: Role,
    pub(crate) disk: Disk,
    pub(crate) peer_disk: Disk,
    /// How far a resync or verify is, in percent.
    pub(crate) done: Option<String>,
    /// How long it will take, as DRBD writes it.
    pub(crate) finish: Option<String>,
}

impl ProcDrbd {
    /// The file; None when the module is not loaded.
    pub(crate) fn look() -> Result<Option<Self>> {
        match fs::read(PATH) {
            Ok(bytes) => Ok(Some(Self::parse(&String::from_utf8_lossy(&bytes)))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("cannot read /proc/drbd"),
        }
    }

    /// The resource that has these minors, as far as the file shows it; none where it does not show all of them.
    pub(crate) fn resource(&self, minors: &[u32]) -> Option<Resource> {
        let devices: Option<Vec<_>> = minors.iter().map(|minor| Some((*minor, self.devices.get(minor)?))).collect();
        let devices = devices.filter(|devices| !devices.is_empty())?;
        if devices.iter().any(|(_, device)| device.connection == "Unconfigured") {
            return None;
        }
        let one = |primary: fn(&Device) -> &Role| {
            let roles = devices.iter().map(|(_, device)| primary(device));
            roles.clone().find(|role| **role == Role::Primary).or_else(|| roles.clone().next()).cloned()
        };
        let (connection, _) = devices[0].1.meaning();
        let mut peer =
            Peer { name: None, connection, role: one(|device| &device.peer_role)?, volumes: BTreeMap::new() };
        let mut volumes = BTreeMap::new();
        for (number, (minor, device)) in (0..).zip(&devices) {
            let disk = device.disk.clone();
            volumes.insert(number, Volume { minor: Some(*minor), disk, client: false, quorum: true });
            let (_, replication) = device.meaning();
            let (disk, done) = (device.peer_disk.clone(), device.done.clone());
            let resync_suspended = Vec::new();
            let there =
                PeerVolume { replication, disk, client: false, resync_suspended, out_of_sync: None, done, eta: None };
            peer.volumes.insert(number, there);
        }
        let suspended = devices.iter().any(|(_, device)| device.suspended).then(|| "for an unknown reason".to_owned());
        let (role, peers) = (one(|device| &device.role)?, BTreeMap::from([(0, peer)]));
        Some(Resource { role, suspended: suspended.into_iter().collect(), failing_io: false, volumes, peers })
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        let mut current = None;
        for line in text.lines() {
            let trimmed = line.trim_start();
            if let Some(version) = line.strip_prefix("version: ") {
                found.version = version.split(' ').next().and_then(parse_version);
            } else if let Some((minor, device)) = device(trimmed) {
                current = Some(minor);
                found.devices.insert(minor, device);
            } else if let Some(device) = current.and_then(|minor| found.devices.get_mut(&minor)) {
                progress(trimmed, device);
            }
        }
        found
    }
}

impl Device {
    /// One word of 8.4 is two in events2.
    fn meaning(&self) -> (Connection, Replication) {
        match self.connection.as_str() {
            "Connected" => (Connection::Connected, Replication::Established),
            "WFConnection" => (Connection::Connecting, Replication::Off),
            word => match Connection::parse(word) {
                Connection::Other(_) => (Connection::Connected, Replication::parse(word)),
                known => (known, Replication::Off),
            },
        }
    }
}

/// ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`.
fn device(line: &str) -> Option<(u32, Device)> {
    let (minor, rest) = line.split_once(": cs:")?;
    let pair = |name: &str| {
        let word = rest.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
        word.and_then(|word| word.split_once('/')).unwrap_or_default()
    };
    let ((role, peer_role), (disk, peer_disk)) = (pair("ro:"), pair("ds:"));
    let mut words = rest.split_ascii_whitespace();
    let connection = shown(words.next().unwrap_or_default());
    let device = Device {
        // The flags come last; the first of them is `s` or `r`.
        suspended: connection != "Unconfigured" && words.next_back().is_some_and(|flags| flags.starts_with('s')),
        connection,
        role: Role::parse(role),
        peer_role: Role::parse(peer_role),
        disk: Disk::parse(disk),
        peer_disk: Disk::parse(peer_disk),
        done: None,
        finish: None,
    };
    Some((minor.parse().ok()?, device))
}

/// `[==>.....] sync'ed: 18.2% (40036/41024)K`, or `verified:`, and in the line after it `finish: 0:01:06 speed: …`.
fn progress(line: &str, device: &mut Device) {
    let after = |name: &str| line.split_once(name).and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    if let Some(done) = after("sync'ed:").or_else(|| after("verified:")).and_then(|word| word.strip_suffix('%')) {
        device.done = Some(shown(done));
    }
    if let Some(finish) = after("finish:") {
        device.finish = Some(shown(finish));
    }
}

/// `8.4.11`, or with something behind it such as `9.1.16-1`.
pub(crate) fn parse_version(text: &str) -> Option<Version> {
    let mut numbers = text.trim().splitn(3, '.').map(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().ok()
    });
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_of_a_resync_is_found() {
        let syncing = ProcDrbd::parse(include_str!("../captures/syncing-n1.proc"));
        assert_eq!(syncing.version, Some((8, 4, 11)));
        let device = &syncing.devices[&0];
        assert_eq!((device.done.as_deref(), device.finish.as_deref()), (Some("18.2"), Some("0:01:06")));
        assert_eq!((&device.role, &device.peer_disk), (&Role::Primary, &Disk::Inconsistent));
    }

    /// What both sources say of a captured state is the same, but for what /proc/drbd does not know.
    #[test]
    fn a_resource_is_the_same_as_in_events2() {
        for (proc, events) in [
            (include_str!("../captures/syncing-n1.proc"), include_str!("../captures/syncing-n1.events2")),
            (include_str!("../captures/syncing-n2.proc"), include_str!("../captures/syncing-n2.events2")),
            (include_str!("../captures/network-cut-n1.proc"), include_str!("../captures/network-cut-n1.events2")),
            (include_str!("../captures/split-brain-n2.proc"), include_str!("../captures/split-brain-n2.events2")),
            (
                include_str!("../captures/diskless-primary-n1.proc"),
                include_str!("../captures/diskless-primary-n1.events2"),
            ),
        ] {
            let mut wanted = crate::events::read(events, "r0").unwrap().unwrap();
            for peer in wanted.peers.values_mut() {
                peer.name = None;
                peer.volumes.values_mut().for_each(|there| there.out_of_sync = None);
            }
            let mut found = ProcDrbd::parse(proc).resource(&[0]).unwrap();
            found.peers.values_mut().flat_map(|peer| peer.volumes.values_mut()).for_each(|there| there.done = None);
            assert_eq!(found, wanted);
        }
        assert_eq!(ProcDrbd::parse(include_str!("../captures/down-n1.proc")).resource(&[0]), None);
        let suspended = include_str!("../captures/network-cut-n1.proc").replace("C r-----", "C s-----");
        assert_eq!(ProcDrbd::parse(&suspended).resource(&[0]).unwrap().suspended.len(), 1);
    }

    #[test]
    fn versions_are_numbers_with_anything_behind_them() {
        for (text, version) in [("8.3.16", Some((8, 3, 16))), ("9.2.12-1", Some((9, 2, 12))), ("9.1", None), ("", None)]
        {
            assert_eq!(parse_version(text), version, "{text:?}");
        }
    }

    #[test]
    fn drbd_9_says_its_version_only() {
        let nine = ProcDrbd::parse("version: 9.1.16 (api:2/proto:110-121)\nGIT-hash: 0 build by x\nTransports: tcp\n");
        assert_eq!((nine.version, nine.devices.len()), (Some((9, 1, 16)), 0));
    }
}
