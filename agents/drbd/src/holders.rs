//! Who holds a device open, so that it cannot be demoted: processes, mounts, swap, and devices upon it (proc(5), sysfs).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, makedev, minor};

/// DRBD's major number (Documentation/admin-guide/devices.txt).
const DRBD: u64 = 147;
/// As many of a kind are named; the others are counted.
const SHOWN: usize = 6;

/// Who holds some devices.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    mounts: BTreeSet<String>,
    processes: BTreeMap<i32, String>,
    others: BTreeSet<String>,
}

impl Holders {
    /// Those of these minors.
    pub(crate) fn find(minors: &[u32]) -> Self {
        let devices: Vec<u64> = minors.iter().map(|number| makedev(DRBD, u64::from(*number))).collect();
        let mut found = Self::default();
        let mut namespaces = BTreeSet::new();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            let place = format!("/proc/{pid}");
            // A process in another mount namespace may keep a file system mounted that is gone elsewhere.
            if fs::read_link(format!("{place}/ns/mnt")).is_ok_and(|namespace| namespaces.insert(namespace))
                && let Ok(text) = fs::read_to_string(format!("{place}/mountinfo"))
            {
                found.mounts.extend(mounts(&text, &devices));
            }
            if uses(Path::new(&place), &devices) {
                found.processes.insert(pid, command(&place));
            }
        }
        found.others.extend(swaps(&fs::read_to_string("/proc/swaps").unwrap_or_default(), &devices));
        for number in minors {
            let above = fs::read_dir(format!("/sys/dev/block/{DRBD}:{number}/holders")).into_iter().flatten().flatten();
            found.others.extend(above.map(|entry| format!("the block device {}", entry.file_name().to_string_lossy())));
        }
        found
    }
}

impl std::fmt::Display for Holders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processes: Vec<String> =
            self.processes.iter().map(|(pid, name)| format!("process {pid} ({name})")).collect();
        let mounts: Vec<String> = self.mounts.iter().map(|point| format!("the mount {point}")).collect();
        let others: Vec<String> = self.others.iter().cloned().collect();
        let kinds = [mounts, processes, others].into_iter().filter(|kind| !kind.is_empty());
        let words: Vec<String> = kinds
            .map(|kind| {
                let more = if kind.len() > SHOWN { format!(" and {} more", kind.len() - SHOWN) } else { String::new() };
                format!("{}{more}", kind[..kind.len().min(SHOWN)].join(", "))
            })
            .collect();
        if words.is_empty() {
            return f.write_str("it is held open by somebody in the kernel (nfsd, a loop device, a virtual machine?)");
        }
        write!(f, "it is held open by {}", words.join("; "))
    }
}

/// The mount points of these devices, in the lines of proc_pid_mountinfo(5).
fn mounts(text: &str, devices: &[u64]) -> Vec<String> {
    let point = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = words.nth(2)?.split_once(':')?;
        let device = makedev(major.parse().ok()?, minor.parse().ok()?);
        let point = words.nth(1)?.replace("\\040", " ");
        devices.contains(&device).then_some(point)
    };
    text.lines().filter_map(point).collect()
}

fn swaps(text: &str, devices: &[u64]) -> Vec<String> {
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| is_device(Path::new(name), devices)).map(|name| format!("swap on {name}")).collect()
}

/// Whether the path leads to one of the devices, or to a file upon one.
fn uses(process: &Path, devices: &[u64]) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = ["cwd", "root", "exe"].map(|name| process.join(name));
    descriptors.chain(places).any(|path| is_device(&path, devices) || is_upon(&path, devices))
}

fn is_device(path: &Path, devices: &[u64]) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.file_type().is_block_device() && devices.contains(&facts.rdev()))
}

fn is_upon(path: &Path, devices: &[u64]) -> bool {
    fs::metadata(path).is_ok_and(|facts| {
        // The kernel's number and that of the C library differ in how they are packed.
        devices.contains(&makedev(major(facts.dev()), minor(facts.dev())))
    })
}

fn command(process: &str) -> String {
    let name = fs::read_to_string(format!("{process}/comm")).unwrap_or_default();
    crate::model::shown(name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_by_the_number_of_the_device() {
        let text =
            "22 1 147:3 / /mnt/a\\040b rw - ext4 /dev/drbd3 rw\n23 1 8:1 / / rw - ext4 /dev/sda1 rw\nx\n1 2 :: / y\n";
        assert_eq!(mounts(text, &[makedev(DRBD, 3)]), ["/mnt/a b"]);
    }

    #[test]
    fn a_process_that_stands_on_a_device_is_found() {
        let here = fs::metadata("/proc/self/root").unwrap().dev();
        assert!(uses(Path::new("/proc/self"), &[here]));
        assert!(!uses(Path::new("/proc/self"), &[makedev(DRBD, 9999)]));
    }

    #[test]
    fn holders_are_named_or_said_to_be_the_kernels() {
        assert!(Holders::default().to_string().contains("in the kernel"));
        let processes = BTreeMap::from([(7, "dd".to_owned())]);
        let found = Holders { mounts: BTreeSet::from(["/m".to_owned()]), processes, others: BTreeSet::new() };
        assert_eq!(found.to_string(), "it is held open by the mount /m; process 7 (dd)");
    }
}
