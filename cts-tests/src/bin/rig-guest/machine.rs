//! What a guest has before anybody asks for anything: file system, modules, network, volumes.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cts_tests::command::command;
use cts_tests::network::{IPV4_PREFIX, ip, node_ipv4};
use cts_tests::vm::{DIRECTORY, REPLICATION_PREFIX, replication_ipv4};
use cts_tests::wait;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

/// What the tests of a guest need of its kernel, beyond the modules of the initramfs. xfs, softdog and others are there to
/// be loaded.
const MODULES: &[&str] =
    &["virtio_console", "virtio_net", "virtio_rng", "af_packet", "dm_mod", "crc32c_generic", "drbd"];

/// How long a device may take to appear.
const DEVICE: Duration = Duration::from_secs(20);

/// The image that all guests share below, the guest's own disk above: what it writes survives its power cut as far as it
/// was written to the disk.
pub(crate) fn file_system() -> Result<()> {
    for (kind, place) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        attach(kind, kind, place, "", MsFlags::empty())?;
    }
    let modules = Path::new("/modules");
    for name in fs::read_to_string(modules.join("order"))?.lines() {
        let file = File::open(modules.join(name)).with_context(|| format!("no module {name}"))?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot load {name}")),
        }
    }
    let there = || Ok(["/dev/vda", "/dev/vdb", "/dev/vdc"].iter().all(|disk| Path::new(disk).exists()));
    wait::until("the disks", DEVICE, wait::QUICK, there)?;
    attach("/dev/vda", "ext4", "/lower", "", MsFlags::MS_RDONLY)?;
    attach("/dev/vdb", "ext4", "/own", "", MsFlags::MS_NOATIME)?;
    for directory in ["/own/upper", "/own/work"] {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    }
    attach("overlay", "overlay", "/root", "lowerdir=/lower,upperdir=/own/upper,workdir=/own/work", MsFlags::empty())?;
    for place in ["/dev", "/proc", "/sys"] {
        let to = format!("/root{place}");
        fs::create_dir_all(&to)?;
        mount(Some(place), to.as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    }
    // The initramfs cannot be pivoted away from (kernel: filesystems/ramfs-rootfs-initramfs.rst); it stays below.
    chdir("/root")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")?;
    attach("tmpfs", "tmpfs", "/run", "mode=755", MsFlags::empty())?;
    attach("tmpfs", "tmpfs", "/tmp", "mode=1777", MsFlags::empty())?;
    // libqb's shared-memory IPC and Corosync's rings live here.
    attach("tmpfs", "tmpfs", "/dev/shm", "mode=1777", MsFlags::empty())?;
    attach("devpts", "devpts", "/dev/pts", "ptmxmode=0666,mode=620", MsFlags::empty())?;
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(target, Path::new("/dev").join(name))?;
    }
    Ok(fs::create_dir_all(DIRECTORY)?)
}

fn attach(what: &str, kind: &str, place: &str, options: &str, flags: MsFlags) -> Result<()> {
    fs::create_dir_all(place)?;
    mount(Some(what), place, Some(kind), flags, Some(options))
        .with_context(|| format!("cannot mount {what} ({kind}) on {place}"))
}

pub(crate) fn modules() -> Result<()> {
    // dm-mod's uevents, and everything else that asks for a module, would call modprobe by this path.
    fs::write("/proc/sys/kernel/modprobe", "/sbin/modprobe")?;
    command(["modprobe", "--all"]).args(MODULES).bare_environment().text().map(drop)
}

/// eth0 is the network of Corosync and of clients, eth1 the replication link.
pub(crate) fn network(number: u8) -> Result<()> {
    let (ring, replication) = (node_ipv4(number), replication_ipv4(number));
    ip(&format!(
        "link set lo up\nlink set eth0 up\nlink set eth1 up\naddr add {ring}/{IPV4_PREFIX} brd + dev eth0\n\
         addr add {replication}/{REPLICATION_PREFIX} brd + dev eth1\n"
    ))
}

/// The third disk in equal parts, /dev/mapper/volume0 and so on, behind the device mapper so that they can be made to fail.
pub(crate) fn volumes(count: u64) -> Result<()> {
    let size = fs::read_to_string("/sys/class/block/vdc/size").context("no third disk")?;
    let sectors = size.trim().parse::<u64>()? / count.max(1);
    for index in 0..count {
        let (name, table) = (format!("volume{index}"), format!("0 {sectors} linear /dev/vdc {}", index * sectors));
        // There is no udev that would have to be waited for, and none that makes the names.
        let dmsetup = ["dmsetup", "create", "--noudevsync", &name, "--table", &table];
        command(dmsetup).bare_environment().text()?;
    }
    command(["dmsetup", "mknodes", "--noudevsync"]).bare_environment().text().map(drop)
}

/// The fourth disk and those after it, mounted in these places.
pub(crate) fn trees(places: &str) -> Result<()> {
    for (place, letter) in places.split(',').filter(|place| !place.is_empty()).zip('d'..='z') {
        let disk = format!("/dev/vd{letter}");
        wait::until(&disk, DEVICE, wait::QUICK, || Ok(Path::new(&disk).exists()))?;
        attach(&disk, "ext4", place, "", MsFlags::MS_RDONLY)?;
    }
    Ok(())
}
