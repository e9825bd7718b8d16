//! DRBD in guests: its configuration, resources that are in sync without a first synchronisation, and what its kernel
//! module says about them.

use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::Guest;
use super::rack::Rack;
use super::replication_ipv4;
use crate::node::Owner;
use crate::wait;

/// A resource: its name, its port, and its volumes in order, each the minor number of its device and the number of the
/// guest's volume that it lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: &'static str,
    /// Its TCP port on the replication link.
    pub port: u16,
    /// Minor numbers of its devices, which are also the numbers of the guest's volumes below them.
    pub minors: &'static [u8],
}

/// The usual resource: /dev/drbd0.
pub const R0: Resource = Resource { name: "r0", port: 7788, minors: &[0] };
/// A second one: /dev/drbd1.
pub const R1: Resource = Resource { name: "r1", port: 7789, minors: &[1] };
/// One with two volumes: /dev/drbd2 and /dev/drbd3.
pub const R2: Resource = Resource { name: "r2", port: 7790, minors: &[2, 3] };

/// How long DRBD may take for anything that is asked of it here.
const AMPLE: Duration = Duration::from_secs(60);

/// A link that is cut is noticed after 3 to 4 s, not after 13 to 16 s; timeout has to be the shortest. timeout and
/// ping-timeout are in tenths of a second. Without a plan a synchronisation goes at its rate from the first second on, which
/// otherwise takes it half a minute to find (drbd.conf(5)).
const COMMON: &str = "\
global { usage-count no; }
common {
 net {
  protocol C;
  timeout 25;
  ping-int 3;
  ping-timeout 10;
  connect-int 3;
 }
 disk {
  on-io-error detach;
  c-plan-ahead 0;
  resync-rate 100M;
 }
}
";

/// One device as its node's kernel sees it (/proc/drbd of DRBD 8.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// `Connected`, `WFConnection`, `StandAlone`, …
    pub connection: String,
    /// Own role: `Primary`, `Secondary`.
    pub role: String,
    /// The peer's, or `Unknown`.
    pub peer_role: String,
    /// Own disk: `UpToDate`, `Diskless`, …
    pub disk: String,
    /// The peer's, or `DUnknown`.
    pub peer_disk: String,
}

impl Device {
    /// The devices that /proc/drbd names, in its order, with their minor numbers. One without configuration is left out.
    pub fn all(text: &str) -> Vec<(u8, Self)> {
        text.lines().filter_map(Self::line).collect()
    }

    /// ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`
    fn line(line: &str) -> Option<(u8, Self)> {
        let (minor, rest) = line.trim_start().split_once(": ")?;
        let value = |key: &str| rest.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix(':'));
        let connection = value("cs")?.to_owned();
        let (role, peer_role) = value("ro")?.split_once('/')?;
        let (disk, peer_disk) = value("ds")?.split_once('/')?;
        let [role, peer_role, disk, peer_disk] = [role, peer_role, disk, peer_disk].map(str::to_owned);
        Some((minor.parse().ok()?, Self { connection, role, peer_role, disk, peer_disk }))
    }
}

/// A device as a guest's kernel sees it; `None` while it has none of that number.
pub fn device(guest: &Guest, minor: u8) -> Result<Option<Device>> {
    let devices = Device::all(&guest.read_file("/proc/drbd")?);
    Ok(devices.into_iter().find(|(number, _)| *number == minor).map(|(_, device)| device))
}

/// Waits for a state of a device on one guest.
pub fn wait_device(guest: &Guest, minor: u8, what: &str, holds: impl Fn(&Device) -> bool) -> Result<Duration> {
    let mut seen = None;
    let what = format!("drbd{minor} on {} to be {what}", guest.name);
    let waited = wait::until(&what, AMPLE, wait::TOOL, || {
        seen = device(guest, minor)?;
        Ok(seen.as_ref().is_some_and(&holds))
    });
    waited.with_context(|| format!("last seen: {seen:?}"))
}

impl Resource {
    /// Its part of the configuration, as a file of /etc/drbd.d.
    pub fn configuration(&self, guests: &[(&str, u8)]) -> String {
        let volume = |(index, minor): (usize, &u8)| {
            format!(
                " volume {index} {{\n  device /dev/drbd{minor};\n  disk /dev/mapper/volume{minor};\n  meta-disk internal;\n }}\n"
            )
        };
        let on = |(name, number): &(&str, u8)| {
            format!(" on {name} {{\n  address {}:{};\n }}\n", replication_ipv4(*number), self.port)
        };
        let volumes: String = self.minors.iter().enumerate().map(volume).collect();
        let hosts: String = guests.iter().map(on).collect();
        format!("resource {} {{\n{volumes}{hosts}}}\n", self.name)
    }

    /// The path of its first device.
    pub fn device(&self) -> String {
        format!("/dev/drbd{}", self.minors[0])
    }

    /// The paths of all of them.
    pub fn devices(&self) -> impl Iterator<Item = String> {
        self.minors.iter().map(|minor| format!("/dev/drbd{minor}"))
    }

    /// Puts the configuration on every guest, with new meta-data below it; nothing is up.
    pub fn lay_down(&self, rack: &Rack) -> Result<()> {
        let guests: Vec<_> = rack.guests.iter().map(|guest| (guest.name.as_str(), guest.number)).collect();
        rack.each(|guest| {
            guest.write_file("/etc/drbd.d/global_common.conf", COMMON, 0o644, Owner::Root)?;
            let file = format!("/etc/drbd.d/{}.res", self.name);
            guest.write_file(&file, self.configuration(&guests), 0o644, Owner::Root)?;
            guest.text(&["drbdadm", "--force", "create-md", self.name]).map(drop)
        })
    }

    /// Brings it up everywhere and waits until it is in sync: connected, Secondary on both, both disks up to date, without
    /// a byte having been copied.
    pub fn up(&self, rack: &Rack) -> Result<()> {
        rack.each(|guest| guest.text(&["drbdadm", "up", self.name]).map(drop))?;
        for minor in self.minors {
            rack.each(|guest| wait_device(guest, *minor, "connected", |one| one.connection == "Connected").map(drop))?;
        }
        // All volumes of a resource share the connection, and each has its own generation.
        for (index, minor) in self.minors.iter().enumerate() {
            let volume = format!("{}/{index}", self.name);
            rack.guests[0].text(&["drbdadm", "--", "--clear-bitmap", "new-current-uuid", &volume])?;
            rack.each(|guest| {
                let both = |one: &Device| one.disk == "UpToDate" && one.peer_disk == "UpToDate";
                wait_device(guest, *minor, "up to date on both guests", both).map(drop)
            })?;
        }
        Ok(())
    }

    /// Makes an ext4 file system on each of its devices, with an empty file `stream` in it, from the first guest, which is
    /// Secondary again afterwards.
    pub fn make_file_system(&self, rack: &Rack) -> Result<()> {
        let guest = &rack.guests[0];
        guest.text(&["drbdadm", "primary", self.name])?;
        guest.write_file("/run/rig/seed/stream", "", 0o644, Owner::Root)?;
        for device in self.devices() {
            guest.text(&["mkfs.ext4", "-q", "-d", "/run/rig/seed", &device])?;
        }
        guest.text(&["drbdadm", "secondary", self.name]).map(drop)
    }

    /// Takes it down everywhere, as it is before a cluster starts it.
    pub fn down(&self, rack: &Rack) -> Result<()> {
        rack.each(|guest| guest.text(&["drbdadm", "down", self.name]).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, R2};

    #[test]
    fn proc_drbd_of_8_4() {
        let text = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 0\n\n\
                    \x20 0: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----\n\
                    \x20   ns:0 nr:0 dw:4 dr:2121 al:1 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:4\n\
                    \x20 1: cs:Unconfigured\n";
        let all = Device::all(text);
        assert_eq!(all.len(), 1);
        let (minor, device) = &all[0];
        assert_eq!((*minor, device.connection.as_str(), device.role.as_str()), (0, "WFConnection", "Primary"));
        assert_eq!(
            (device.peer_role.as_str(), device.disk.as_str(), device.peer_disk.as_str()),
            ("Unknown", "UpToDate", "DUnknown")
        );
    }

    #[test]
    fn a_resource_of_two_volumes() {
        let text = R2.configuration(&[("n1", 1), ("n2", 2)]);
        assert_eq!(text.matches("volume ").count(), 2);
        assert!(text.contains("volume 1 {\n  device /dev/drbd3;"), "{text}");
        assert!(text.contains("on n2 {\n  address 10.79.0.12:7790;"), "{text}");
    }
}
