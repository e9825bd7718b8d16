//! What guests start from: a kernel with DRBD, and one read-only file system for all of them. Both are made once for a
//! recipe and kept in cargo's target directory.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::system;
use crate::command::command;
use crate::{installed, packages};

/// The distribution's smallest kernel; it has DRBD.
const KERNEL: &str = "linux-image-cloud-amd64";

/// What it takes to see the disks and to lay one file system over another; ext4 is in the kernel.
const FIRST_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "overlay"];

/// What guests load, or may, once their file system is there.
const MODULES: &[&str] = &[
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "drbd",
    "crc32c_generic",
    "crc32c_intel",
    "dm_mod",
    "dm_flakey",
    "dm_delay",
    "loop",
    "softdog",
    "sch_netem",
    "veth",
    "dummy",
    "bridge",
    "af_packet",
    "xfs",
];

/// How long a tool may take that reads or writes a whole system.
const AMPLE: Duration = Duration::from_secs(300);

/// The parts of a finished image.
#[derive(Clone, Debug)]
pub struct Image {
    directory: PathBuf,
}

impl Image {
    /// The image that [`Image::build`] left.
    pub fn current() -> Result<Self> {
        let directory = kept()?.join("current");
        let directory = directory.canonicalize().with_context(|| format!("no image at {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// Makes the image, unless there is one of the same recipe.
    pub fn build() -> Result<()> {
        let contents = system::closure(packages::GUEST)?;
        let kernel = kernel()?;
        let mut recipe = DefaultHasher::new();
        (&contents, &kernel, include_str!("image.rs"), include_str!("system.rs")).hash(&mut recipe);
        let kept = kept()?;
        let name = format!("{:016x}", recipe.finish());
        if !kept.join(&name).join("root.img").exists() {
            writeln!(std::io::stderr(), "making the file system of the guests (half a minute, once)")?;
            let began = Instant::now();
            // Under another name first: what was interrupted must not be taken for an image.
            let new = kept.join("new");
            let _ = fs::remove_dir_all(&kept);
            fs::create_dir_all(&new)?;
            make(&contents, &kernel, &new).context("cannot make the file system of the guests")?;
            fs::rename(&new, kept.join(&name))?;
            writeln!(std::io::stderr(), "made in {:.1} s", began.elapsed().as_secs_f64())?;
        }
        let link = kept.join("current");
        let _ = fs::remove_file(&link);
        Ok(symlink(name, link)?)
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The file system.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root.img")
    }

    /// The modules to load before the file system is there, in order.
    pub fn first_modules(&self) -> Result<Vec<PathBuf>> {
        let directory = self.directory.join("modules");
        let order = fs::read_to_string(directory.join("order"))?;
        Ok(order.lines().map(|name| directory.join(name)).collect())
    }
}

fn kept() -> Result<PathBuf> {
    Ok(installed::target_directory()?.join("guests"))
}

/// The kernel's package and version, as `apt-get download` takes it: `NAME=VERSION`.
fn kernel() -> Result<String> {
    if let Some(kernel) = offered()? {
        return Ok(kernel);
    }
    command(["apt-get", "-q", "update"]).within(AMPLE).text()?;
    offered()?.with_context(|| format!("apt offers no {KERNEL}; is this Debian 12?"))
}

/// What the package that always depends on the newest one names, as far as apt has read its lists.
fn offered() -> Result<Option<String>> {
    let depends = command(["apt-cache", "depends", "--important", KERNEL]).run()?.stdout;
    let Some(name) = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")) else { return Ok(None) };
    let shown = command(["apt-cache", "show", "--no-all-versions", name]).text()?;
    let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
    Ok(version.map(|version| format!("{name}={version}")))
}

fn make(contents: &[String], kernel: &str, to: &Path) -> Result<()> {
    let [root, unpacked] = ["root", "kernel"].map(|name| to.join(name));
    fs::create_dir(&root)?;
    fs::create_dir(&unpacked)?;
    system::copy(contents, &root)?;
    // The package may have left the mirror since the lists were read.
    let download = || command(["apt-get", "-q", "download", kernel]).directory(&unpacked).within(AMPLE).text();
    if download().is_err() {
        command(["apt-get", "-q", "update"]).within(AMPLE).text()?;
        download()?;
    }
    let package = fs::read_dir(&unpacked)?.flatten().map(|entry| entry.path()).next();
    let package = package.context("apt-get downloaded no kernel")?;
    command(["dpkg-deb", "--extract"]).arg(package).arg(&unpacked).within(AMPLE).text()?;
    // Debian 13's has them below usr, and compressed.
    let all = fs::read_dir(unpacked.join("lib/modules"));
    let all = all.with_context(|| format!("{kernel} has no lib/modules: guests are made of Debian 12 only"))?;
    let release = all.flatten().next().context("the kernel has no modules")?;
    let release = release.file_name().to_string_lossy().into_owned();
    fs::rename(unpacked.join("boot").join(format!("vmlinuz-{release}")), to.join("vmlinuz"))?;
    modules(&unpacked, &release, &root, &to.join("modules"))?;
    file_system(&root, &to.join("root.img"))?;
    fs::remove_dir_all(&unpacked)?;
    Ok(fs::remove_dir_all(&root)?)
}

/// Copies the modules that guests load, with what they depend on, to the file system, and the first ones beside it.
fn modules(unpacked: &Path, release: &str, root: &Path, first: &Path) -> Result<()> {
    let depmod = |base: &Path| command(["depmod", "--basedir"]).arg(base).arg(release).text();
    depmod(unpacked)?;
    let from = unpacked.join("lib/modules").join(release);
    let to = root.join("lib/modules").join(release);
    fs::create_dir_all(&to)?;
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(from.join(list), to.join(list)).with_context(|| format!("the kernel has no {list}"))?;
    }
    for file in with_dependencies(unpacked, release, &[FIRST_MODULES, MODULES].concat())? {
        let place = to.join(file.strip_prefix(&from)?);
        fs::create_dir_all(place.parent().context("a module has no directory")?)?;
        fs::copy(file, place)?;
    }
    depmod(root)?;
    fs::create_dir(first)?;
    let mut order = String::new();
    for file in with_dependencies(unpacked, release, FIRST_MODULES)? {
        let name = file.file_name().context("a module has no name")?;
        fs::copy(&file, first.join(name))?;
        order += &format!("{}\n", name.to_string_lossy());
    }
    Ok(fs::write(first.join("order"), order)?)
}

/// The files of modules, each after those that it needs.
fn with_dependencies(unpacked: &Path, release: &str, names: &[&str]) -> Result<Vec<PathBuf>> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for name in names {
        let modprobe = command(["modprobe", "--set-version", release, "--show-depends", "--dirname"]);
        let answer = modprobe.arg(unpacked).arg(name).text()?;
        // `insmod PATH OPTIONS`: the options are those of the host's /etc/modprobe.d.
        let paths = answer.lines().filter_map(|line| line.strip_prefix("insmod ")?.split_whitespace().next());
        for file in paths.map(PathBuf::from) {
            ensure!(file.exists(), "the kernel has no module {}", file.display());
            if seen.insert(file.clone()) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// Makes an image of a directory. Without a journal, for nobody writes to it; one inode for 8 KiB, as it holds many small
/// files.
pub(super) fn file_system(root: &Path, image: &Path) -> Result<()> {
    let size = command(["du", "-sm"]).arg(root).within(AMPLE).text()?;
    let size: u64 = size.split_whitespace().next().and_then(|word| word.parse().ok()).context("du told no size")?;
    command(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", "-i", "8192", "-d"])
        .args([root, image])
        .arg(format!("{}M", size + size / 8 + 32))
        .within(AMPLE)
        .text()
        .map(drop)
}
