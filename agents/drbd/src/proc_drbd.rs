//! /proc/drbd: the module's version, and with 8.4 the state of each minor (`drbd_proc.c`). It is there while the module is.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use crate::model::{Disk, Role, shown};

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

/// ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`.
fn device(line: &str) -> Option<(u32, Device)> {
    let (minor, rest) = line.split_once(": cs:")?;
    let pair = |name: &str| {
        let word = rest.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
        word.and_then(|word| word.split_once('/')).unwrap_or_default()
    };
    let ((role, peer_role), (disk, peer_disk)) = (pair("ro:"), pair("ds:"));
    let device = Device {
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
