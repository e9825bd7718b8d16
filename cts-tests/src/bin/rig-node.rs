//! PID 1 of a node: makes the node's file system out of the host's, waits for orders, starts the cluster, reaps.
//!
//! Usage: rig-node NAME DISK SHARE. Started by the rig in fresh mount, UTS, IPC, network and PID namespaces. Says
//! `ready` on standard output once the file system is there; `daemon PROGRAM ARGUMENTS` on standard input starts a
//! daemon, `cluster` starts Corosync and Pacemaker.

use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail};
use cts_tests::boot;
use cts_tests::command::reap_orphans;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::unistd::{chdir, pivot_root, sethostname};

/// Devices a distribution expects (filesystem hierarchy standard, section 6.1.3): name, major, minor.
const DEVICES: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, disk, share] = arguments.as_slice() else { bail!("usage: rig-node NAME DISK SHARE") };
    // The demonstration has signals blocked, and every child inherits that (signal(7)): no TERM would end a service here.
    SigSet::empty().thread_set_mask()?;
    sethostname(name)?;
    umask(Mode::empty());
    file_system(Path::new(disk), Path::new(share)).with_context(|| format!("cannot make the file system of {name}"))?;
    umask(Mode::from_bits_truncate(0o022));
    boot::runtime_directories()?;
    fs::write("/etc/hostname", format!("{name}\n"))?;
    reap_orphans()?;
    println!("ready");
    io::stdout().flush()?;
    for order in io::stdin().lock().lines() {
        let order = order?;
        match order.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["cluster"] => boot::start_cluster()?,
            ["daemon", argv @ ..] => boot::start_daemon(argv)?,
            _ => bail!("unknown order `{order}`"),
        }
    }
    // Standard input ends only with the rig itself, and then this namespace ends too.
    loop {
        thread::park();
    }
}

/// The host's root read-only below, the node's own disk above: what the node writes survives its power cut.
fn file_system(disk: &Path, share: &Path) -> Result<()> {
    let [upper, work, root] = ["upper", "work", "root"].map(|name| disk.join(name));
    for directory in [&upper, &work, &root] {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    let layers = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    attach("overlay", &root, &layers, MsFlags::empty())?;
    attach("proc", &root.join("proc"), "", MsFlags::empty())?;
    attach("sysfs", &root.join("sys"), "", MsFlags::MS_RDONLY)?;
    attach("tmpfs", &root.join("dev"), "mode=755", MsFlags::empty())?;
    devices(&root.join("dev"))?;
    attach("tmpfs", &root.join("run"), "mode=755", MsFlags::empty())?;
    attach("tmpfs", &root.join("tmp"), "mode=1777", MsFlags::empty())?;
    let [inside, old] = ["run/rig", "run/old-root"].map(|name| root.join(name));
    fs::create_dir(&inside)?;
    mount(Some(share), &inside, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    fs::create_dir(&old)?;
    pivot_root(&root, &old)?;
    chdir("/")?;
    umount2("/run/old-root", MntFlags::MNT_DETACH)?;
    Ok(fs::remove_dir("/run/old-root")?)
}

fn attach(kind: &str, directory: &Path, options: &str, flags: MsFlags) -> Result<()> {
    mount(Some(kind), directory, Some(kind), flags, Some(options))
        .with_context(|| format!("cannot mount {kind} on {}", directory.display()))
}

fn devices(dev: &Path) -> Result<()> {
    let everyone = Mode::from_bits_truncate(0o666);
    for (name, major, minor) in DEVICES {
        mknod(&dev.join(name), SFlag::S_IFCHR, everyone, makedev(*major, *minor))?;
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(target, dev.join(name))?;
    }
    let [shm, pts] = ["shm", "pts"].map(|name| dev.join(name));
    fs::create_dir(&shm)?;
    // libqb's shared-memory IPC and Corosync's rings live here.
    attach("tmpfs", &shm, "mode=1777,size=512m", MsFlags::empty())?;
    fs::create_dir(&pts)?;
    attach("devpts", &pts, "newinstance,ptmxmode=0666,mode=620", MsFlags::empty())?;
    Ok(symlink("pts/ptmx", dev.join("ptmx"))?)
}
