//! The DRBD resources of a chain, the file systems on their volumes, and files with checksums there, none of which may be lost.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use super::drbd::{Device, R0, Resource};
use super::drbd_pair::{Contender, PLACE, set_handlers};
use super::guest::Guest;
use super::rack::Rack;

/// The resources, and what was written to them.
#[derive(Debug)]
pub struct Volumes {
    /// r0 first.
    pub(super) resources: Vec<Resource>,
    /// Files that were synced, with their checksums.
    kept: Mutex<Vec<(String, String)>>,
}

/// Where the file system of a device is mounted.
pub fn place(minor: u8) -> String {
    if R0.minors.contains(&minor) { PLACE.to_owned() } else { format!("/srv/drbd{minor}") }
}

impl Volumes {
    /// Of r0, which the pair itself makes ([`super::drbd_pair::Pair::with`]), and of these.
    pub(super) fn of_r0_and(beside: &[Resource]) -> Self {
        Self { resources: [&[R0], beside].concat(), kept: Mutex::default() }
    }

    /// Makes those beside r0, as r0 is made: in sync, with fencing and file systems, and down.
    pub(super) fn lay_down(&self, rack: &Rack) -> Result<()> {
        self.resources.iter().filter(|one| **one != R0).try_for_each(|resource| {
            resource.lay_down(rack)?;
            let configuration = format!("/etc/drbd.d/{}.res", resource.name);
            rack.each(|guest| set_handlers(guest, &configuration, Contender::Greenarrow))?;
            resource.up(rack)?;
            resource.make_file_system(rack)?;
            resource.down(rack)
        })
    }

    /// Minor numbers of all devices.
    pub fn minors(&self) -> impl Iterator<Item = u8> {
        self.resources.iter().flat_map(|one| one.minors).copied()
    }

    /// What `hvmail_ha configure` calls the primitives.
    pub fn primitives(&self) -> Vec<String> {
        match &self.resources[..] {
            [_] => vec!["drbd".to_owned()],
            all => all.iter().map(|one| format!("drbd-{}", one.name)).collect(),
        }
    }

    /// The clone that all others of the chain follow.
    pub fn first_clone(&self) -> String {
        format!("{}-clone", self.primitives()[0])
    }

    /// What is not as it should be at the moment: all in sync, and everything on the same guest.
    pub(super) fn ill(&self, primary: &Guest, secondary: &Guest) -> Result<Option<String>> {
        for (guest, role, peer_role) in [(primary, "Primary", "Secondary"), (secondary, "Secondary", "Primary")] {
            let [connection, role, peer_role, disk, peer_disk] =
                ["Connected", role, peer_role, "UpToDate", "UpToDate"].map(str::to_owned);
            let expected = Device { connection, role, peer_role, disk, peer_disk };
            let (devices, mounts) = (Device::all(&guest.read_file("/proc/drbd")?), guest.read_file("/proc/mounts")?);
            for minor in self.minors() {
                let device = devices.iter().find(|(number, _)| *number == minor).map(|(_, device)| device);
                if device != Some(&expected) {
                    return Ok(Some(format!("drbd{minor} on {}: {device:?}, {expected:?} expected", guest.name)));
                }
                let mount = format!("/dev/drbd{minor} {} ", place(minor));
                if mounts.lines().any(|line| line.starts_with(&mount)) != (guest.name == primary.name) {
                    return Ok(Some(format!("{mount}is mounted on {} and is not to be, or is to be", guest.name)));
                }
            }
        }
        Ok(None)
    }

    /// Writes another file of so many KiB to the file system of a device.
    pub fn keep(&self, primary: &Guest, minor: u8, kib: u32) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let file = format!("{}/kept{}", place(minor), kept.len());
        let line = format!("head -c {kib}K /dev/urandom > {file} && sync {file} && sha256sum {file}");
        let sum = primary.text(&["bash", "-c", &line])?;
        kept.push((file, sum.split_whitespace().next().context("sha256sum printed nothing")?.to_owned()));
        Ok(())
    }

    /// Every file that was written has to be there as it was. Says how many there are.
    pub(super) fn nothing_lost(&self, primary: &Guest) -> Result<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            return Ok("no files kept".to_owned());
        }
        let files: Vec<&str> = kept.iter().map(|(file, _)| file.as_str()).collect();
        let sums = primary.text(&[&["sha256sum"], &files[..]].concat())?;
        let there: Vec<_> = sums.lines().filter_map(|line| line.split_once("  ")).collect();
        for (file, sum) in kept.iter() {
            ensure!(there.contains(&(sum, file)), "{file} is not what was synced, {sum}, on {}:\n{sums}", primary.name);
        }
        Ok(format!("{} files kept", kept.len()))
    }
}
