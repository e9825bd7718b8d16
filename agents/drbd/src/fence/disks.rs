//! How good the data is, here and at the peers, as DRBD says.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result};
use ocf::{Deadline, Program};

use crate::events;
use crate::model::{Disk, Resource};
use crate::options::{Options, Task};
use crate::proc_drbd::{Device, ProcDrbd};

/// What is to be known of it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Disks {
    pub(crate) configured: bool,
    pub(crate) all_consistent: bool,
    pub(crate) all_up_to_date: bool,
    pub(crate) peers_up_to_date: bool,
}

impl Disks {
    /// From /proc/drbd with 8.4: its module calls the handler while it holds the lock that drbdsetup would wait for.
    pub(crate) fn look(options: &Options) -> Result<Self> {
        let proc = ProcDrbd::look()?.context("the drbd module is not loaded")?;
        if proc.version.is_some_and(|version| version < (9, 0, 0)) {
            let minors = minors(options)?;
            let devices = minors.iter().map(|minor| proc.devices.get(minor)).collect::<Option<Vec<_>>>();
            return Ok(Self::of_devices(&devices.unwrap_or_default()));
        }
        let deadline = Deadline::after(Duration::from_secs(10));
        let words = ["events2", "--now", &options.resource];
        let output = Program::new("drbdsetup").args(words).run(deadline)?.success("drbdsetup events2")?;
        let resource = events::read(&output.stdout, &options.resource)?;
        Ok(resource.as_ref().map_or(Self::default(), Self::of_resource))
    }

    fn of_devices(devices: &[&Device]) -> Self {
        let all = |test: fn(&Device) -> bool| !devices.is_empty() && devices.iter().all(|device| test(device));
        Self {
            configured: !devices.is_empty(),
            all_consistent: all(|device| device.disk.consistent()),
            all_up_to_date: all(|device| device.disk == Disk::UpToDate),
            peers_up_to_date: all(|device| device.peer_disk == Disk::UpToDate),
        }
    }

    fn of_resource(resource: &Resource) -> Self {
        Self {
            configured: true,
            all_consistent: resource.client() || resource.all_consistent(),
            all_up_to_date: resource.client() || resource.all_up_to_date(),
            peers_up_to_date: resource.peers_all_up_to_date(),
        }
    }
}

/// All of the resource. fence-peer is told them; after-resync-target is called for each volume that is in sync, and told that one
/// only, while another may still be Inconsistent. drbdadm reads them from drbd.conf, without asking the kernel.
fn minors(options: &Options) -> Result<Vec<u32>> {
    if options.task == Task::Fence {
        return Ok(options.minors.clone());
    }
    let deadline = Deadline::after(Duration::from_secs(10));
    let ask = |stacked| Program::new("drbdadm").args(question(options, stacked)).run(deadline);
    let first = ask(false)?;
    // One that lies upon another it knows with -S only ("is a stacked resource, and not available in normal mode").
    let second = if first.status.success() { None } else { Some(ask(true)?).filter(|second| second.status.success()) };
    let listed = second.unwrap_or(first).success("drbdadm sh-minor")?.stdout;
    let number =
        |word: &str| word.parse().with_context(|| format!("drbdadm sh-minor printed {word:?}, no minor number"));
    let mut minors = listed.split_whitespace().map(number).collect::<Result<Vec<u32>>>()?;
    minors.extend(&options.minors);
    Ok(minors)
}

/// DRBD calls the handlers through a drbdadm that may have found the resource elsewhere than in /etc/drbd.conf.
fn question(options: &Options, stacked: bool) -> Vec<OsString> {
    let file = options.configuration.iter().flat_map(|file| ["-c".into(), file.clone().into_os_string()]);
    let stacked = stacked.then(|| "-S".into());
    file.chain(stacked).chain(["sh-minor".into(), options.resource.clone().into()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drbdadm_is_asked_as_it_was_called() {
        let asked = |configuration: Option<&str>, stacked| {
            let environment = |name: &str| match name {
                "DRBD_RESOURCE" => Some("r0".to_owned()),
                "DRBD_CONF" => configuration.map(str::to_owned),
                _ => None,
            };
            let options = Options::read(["unfence".to_owned()].into_iter(), &environment).unwrap().unwrap();
            question(&options, stacked)
        };
        assert_eq!(asked(None, false), ["sh-minor", "r0"]);
        assert_eq!(asked(Some("/srv/drbd.conf"), true), ["-c", "/srv/drbd.conf", "-S", "sh-minor", "r0"]);
    }

    #[test]
    fn the_captured_states_are_what_they_are() {
        let of = |text: &str| {
            let proc = ProcDrbd::parse(text);
            let disks = Disks::of_devices(&proc.devices.values().collect::<Vec<_>>());
            (disks.all_consistent, disks.all_up_to_date, disks.peers_up_to_date)
        };
        let healthy = include_str!("../../captures/connected-primary-secondary-n1.proc");
        let cut = include_str!("../../captures/network-cut-n1.proc");
        let outdated = include_str!("../../captures/outdated-n2.proc");
        assert_eq!(
            (of(healthy), of(cut), of(outdated)),
            ((true, true, true), (true, true, false), (false, false, false))
        );
        assert_eq!(Disks::of_devices(&[]), Disks::default());
    }
}
