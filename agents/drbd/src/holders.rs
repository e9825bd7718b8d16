//! Who holds a device open, so that it cannot be demoted: processes, mounts, swap, and devices upon it (proc(5), sysfs).
//!
//! A process may have its files on a dead NFS server, and whoever asks such a file anything, be it with stat(2), never wakes up
//! again: not even a flag of statx(2) helps, for a path through /proc/PID/fd is validated first (`nfs_weak_revalidate`). So only
//! the kernel's tables are read, which name the mount of each open file, and no file itself is looked at but device nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::makedev;

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

/// A line of proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    id: u64,
    device: u64,
    point: String,
    /// Where device nodes are, in memory, so that nobody waits for it (devtmpfs, and tmpfs in a container).
    in_memory: bool,
}

impl Holders {
    /// Those of these minors.
    pub(crate) fn find(minors: &[u32]) -> Self {
        let devices: Vec<u64> = minors.iter().map(|number| makedev(DRBD, u64::from(*number))).collect();
        let mut found = Self::default();
        // A process in another mount namespace may keep a file system mounted that is gone elsewhere.
        let mut namespaces: BTreeMap<_, Vec<Mount>> = BTreeMap::new();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            let place = format!("/proc/{pid}");
            let Ok(namespace) = fs::read_link(format!("{place}/ns/mnt")) else { continue };
            let mounts = namespaces
                .entry(namespace)
                .or_insert_with(|| mounts(&fs::read_to_string(format!("{place}/mountinfo")).unwrap_or_default()));
            if uses(Path::new(&place), mounts, &devices) {
                found.processes.insert(pid, command(&place));
            }
        }
        let of_devices = namespaces.into_values().flatten().filter(|mount| devices.contains(&mount.device));
        found.mounts.extend(of_devices.map(|mount| mount.point));
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
            return f.write_str("it is held open by somebody in the kernel (nfsd, a loop device, a virtual machine, a file system unmounted with -l?)");
        }
        write!(f, "it is held open by {}", words.join("; "))
    }
}

fn mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let mut words = place.split(' ');
        let (id, (major, minor)) = (words.next()?.parse().ok()?, words.nth(1)?.split_once(':')?);
        let device = makedev(major.parse().ok()?, minor.parse().ok()?);
        let point = words.nth(1)?.replace("\\040", " ");
        Some(Mount { id, device, point, in_memory: kind.starts_with("devtmpfs ") || kind.starts_with("tmpfs ") })
    };
    text.lines().filter_map(mount).collect()
}

fn swaps(text: &str, devices: &[u64]) -> Vec<String> {
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let nodes = names.filter(|name| name.starts_with("/dev/") && is_device(Path::new(name), devices));
    nodes.map(|name| format!("swap on {name}")).collect()
}

/// Whether the process has one of the devices open, or a file upon one, or stands or was started there.
fn uses(process: &Path, mounts: &[Mount], devices: &[u64]) -> bool {
    let descriptors =
        fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let opened = descriptors.into_iter().any(|number| {
        let text = fs::read_to_string(process.join("fdinfo").join(&number)).unwrap_or_default();
        let mount = mount_id(&text).and_then(|id| mounts.iter().find(|mount| mount.id == id));
        mount.is_some_and(|mount| {
            devices.contains(&mount.device)
                || (mount.in_memory && is_device(&process.join("fd").join(&number), devices))
        })
    });
    let stands = ["cwd", "root", "exe"].map(|name| fs::read_link(process.join(name)));
    let upon = |path: &Path| mount_of(path, mounts).is_some_and(|mount| devices.contains(&mount.device));
    opened || stands.into_iter().flatten().any(|path| upon(&path))
}

/// `mnt_id:` of proc_pid_fdinfo(5).
fn mount_id(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// Where a path leads: of the mounts above it the deepest, and of several at one place the last.
fn mount_of<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.len())
}

/// Only for what is in memory: a file elsewhere may never answer.
fn is_device(path: &Path, devices: &[u64]) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.file_type().is_block_device() && devices.contains(&facts.rdev()))
}

fn command(process: &str) -> String {
    let name = fs::read_to_string(format!("{process}/comm")).unwrap_or_default();
    crate::model::shown(name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 147:3 / /mnt/a\\040b rw - ext4 /dev/drbd3 rw\n23 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\nx\n\
                          1 2 :: / y\n24 23 0:6 / /dev rw master:2 - devtmpfs udev rw\n25 22 0:50 / /mnt/a\\040b/far rw - nfs4 x:/ rw\n";

    #[test]
    fn mounts_are_known_by_number_and_by_place() {
        let mounts = mounts(MOUNTS);
        let seen: Vec<_> = mounts.iter().map(|mount| (mount.id, mount.point.as_str(), mount.in_memory)).collect();
        assert_eq!(seen, [(22, "/mnt/a b", false), (23, "/", false), (24, "/dev", true), (25, "/mnt/a b/far", false)]);
        assert_eq!(mounts[0].device, makedev(DRBD, 3));
        for (path, id) in [("/mnt/a b", 22), ("/mnt/a b/x (deleted)", 22), ("/mnt/a b/far/y", 25), ("/mnt/a bc", 23)] {
            assert_eq!(mount_of(Path::new(path), &mounts).map(|mount| mount.id), Some(id), "{path}");
        }
        assert_eq!(mount_id("pos:\t0\nflags:\t0100000\nmnt_id:\t25\nino:\t7\n"), Some(25));
        assert_eq!(mount_id("pos:\t0\n"), None);
    }

    #[test]
    fn a_process_that_stands_on_a_device_or_has_a_file_upon_one_is_found() {
        let here = mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap());
        let of = |path: &str| mount_of(Path::new(path), &here).unwrap().device;
        let this = Path::new("/proc/self");
        assert!(uses(this, &here, &[of("/")]));
        assert!(!uses(this, &here, &[makedev(DRBD, 9999)]));
        let file = fs::File::open("/proc/self/status").unwrap();
        assert!(uses(this, &here, &[of("/proc")]), "{file:?}");
    }

    #[test]
    fn holders_are_named_or_said_to_be_the_kernels() {
        assert!(Holders::default().to_string().contains("in the kernel"));
        let processes = BTreeMap::from([(7, "dd".to_owned())]);
        let found = Holders { mounts: BTreeSet::from(["/m".to_owned()]), processes, others: BTreeSet::new() };
        assert_eq!(found.to_string(), "it is held open by the mount /m; process 7 (dd)");
    }
}
