//! The files of a guest: those of the host's own packages, like the software of the emulated nodes, and nothing else of
//! the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::command;

/// Where distributions keep what a guest without users does not read.
const LEFT_OUT: &[&str] = &[
    "/usr/share/doc/",
    "/usr/share/info/",
    "/usr/share/lintian/",
    "/usr/share/locale/",
    "/usr/share/man/",
    "/usr/share/bug/",
];

/// What the packages' scripts made when they were installed, and every program wants.
const MADE: &[&str] = &[
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/nsswitch.conf",
    "/etc/pam.d/common-account",
    "/etc/pam.d/common-auth",
    "/etc/pam.d/common-password",
    "/etc/pam.d/common-session",
    "/etc/pam.d/common-session-noninteractive",
    "/etc/passwd",
];

/// How long a tool may take that reads or writes a whole system.
const AMPLE: Duration = Duration::from_secs(300);

/// Packages with all that they depend on, and their versions: `NAME VERSION`, in order.
pub fn closure(packages: &[&str]) -> Result<Vec<String>> {
    let all = command(["dpkg-query", "-W", "-f", "${Essential} ${binary:Package} ${Version}\\n"]).text()?;
    let essential = all.lines().filter_map(|line| line.strip_prefix("yes ")?.split(' ').next());
    let only = ["suggests", "recommends", "conflicts", "breaks", "replaces", "enhances"];
    let names = command(["apt-cache", "depends", "--recurse", "--installed"])
        .args(only.map(|kind| format!("--no-{kind}")))
        .args(packages)
        .args(essential)
        .text()?;
    // A line that begins a package has its name only; `<NAME>` is a virtual one.
    let wanted: BTreeSet<_> = names.lines().filter(|line| !line.starts_with([' ', '<', '|'])).map(plain).collect();
    let lines = all.lines().filter_map(|line| line.split_once(' ').map(|(_, rest)| rest));
    let found: Vec<_> = lines
        .filter(|line| wanted.contains(plain(line.split(' ').next().unwrap_or_default())))
        .map(str::to_owned)
        .collect();
    for package in packages {
        let there = found.iter().any(|line| plain(line.split(' ').next().unwrap_or_default()) == *package);
        ensure!(there, "package {package} is not installed on this host");
    }
    Ok(found)
}

/// A package's name without its architecture.
fn plain(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// Copies the files of packages, as [`closure`] names them, to an empty directory.
pub fn copy(packages: &[String], to: &Path) -> Result<()> {
    let names = packages.iter().filter_map(|line| line.split(' ').next());
    let list = command(["dpkg-query", "-L"]).args(names).within(AMPLE).text()?;
    let mut files: BTreeSet<PathBuf> = list.lines().filter(|line| is_wanted(line)).filter_map(real).collect();
    files.extend(MADE.iter().map(PathBuf::from).filter(|path| path.exists()));
    files.extend(alternatives(&files)?);
    files.extend(["/bin", "/sbin", "/lib", "/lib64"].map(PathBuf::from));
    let mut names = Vec::new();
    for file in &files {
        let relative = file.strip_prefix("/").context("a package has a file whose path is not absolute")?;
        names.extend(relative.as_os_str().as_encoded_bytes().iter().chain(b"\0"));
    }
    let archive = to.with_extension("tar");
    let tar = |words: &[&str]| command(["tar"]).args(words).arg(&archive).within(AMPLE);
    tar(&["--create", "--no-recursion", "--null", "--files-from=-", "--file"]).directory("/").stdin(names).text()?;
    tar(&["--extract", "--same-owner", "--preserve-permissions", "--file"]).arg("--directory").arg(to).text()?;
    fs::remove_file(&archive)?;
    // base-files makes it when it is installed, and hosts are without it.
    Ok(fs::create_dir_all(to.join("mnt"))?)
}

fn is_wanted(path: &str) -> bool {
    path.starts_with('/') && path != "/." && !LEFT_OUT.iter().any(|left_out| path.starts_with(left_out))
}

/// A path without symbolic links on the way to it: packages still name files in /bin and /lib. What was removed by hand,
/// or diverted, is not there.
fn real(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let parent = path.parent()?.canonicalize().ok()?;
    let real = parent.join(path.file_name()?);
    real.symlink_metadata().is_ok().then_some(real)
}

/// Links that update-alternatives(1) made to one of `files`, both of them: no package owns these.
fn alternatives(files: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut links = Vec::new();
    for directory in ["/usr/bin", "/usr/sbin"] {
        for entry in fs::read_dir(directory)? {
            let link = entry?.path();
            let Ok(middle) = fs::read_link(&link) else { continue };
            if middle.starts_with("/etc/alternatives") && link.canonicalize().is_ok_and(|end| files.contains(&end)) {
                links.extend([link, middle]);
            }
        }
    }
    Ok(links)
}
