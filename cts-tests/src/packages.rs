//! The distribution's packages that the nodes and the checks are made of.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::command;

/// A running cluster: what a node is made of, and what the rig itself starts.
pub const CLUSTER: &[&str] = &[
    "corosync",
    "daemontools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "pacemaker",
    "pacemaker-cli-utils",
    "pacemaker-resource-agents",
    "procps",
    "resource-agents",
    "ucspi-tcp",
    "systemd",
    "util-linux",
];

/// What the guests of the second rig have on their disk, with all that these depend on; from the host's own files.
pub const GUEST: &[&str] = &[
    "corosync",
    "daemontools",
    "dmsetup",
    "drbd-utils",
    "e2fsprogs",
    "iproute2",
    "iputils-arping",
    "iputils-ping",
    "kmod",
    "libxml2-utils",
    "mount",
    "pacemaker",
    "pacemaker-cli-utils",
    "pacemaker-resource-agents",
    "procps",
    "psmisc",
    "resource-agents",
    "strace",
    "tzdata",
    "ucspi-tcp",
    "util-linux",
    "xfsprogs",
];

/// What starts guests, beyond what is in them.
pub const HYPERVISOR: &[&str] = &["cpio", "qemu-system-x86"];

/// What the checks use beyond a cluster.
pub const CHECKS: &[&str] =
    &["crmsh", "fish", "gzip", "libxml2-utils", "man-db", "mandoc", "pcs", "rpm", "rpmlint", "strace", "tar", "zsh"];

/// What fetches servers of PostgreSQL.
pub const PYPI: &[&str] = &["python3-pip"];

/// What a language of messages is made with, and the time zones that Debian's servers expect on the system.
pub const LOCALES: &[&str] = &["locales", "tzdata"];

/// What copies a file between nodes as an administrator does.
pub const SSH: &[&str] = &["openssh-client", "openssh-server"];

/// What the benchmark measures with and against, beyond a cluster.
pub const PEERS: &[&str] = &["resource-agents-paf", "strace"];

/// How long apt may take: a slow mirror is common, a hanging one must end.
const APT: Duration = Duration::from_secs(15 * 60);

/// Those of `names` that dpkg does not report as installed.
pub fn missing<'names>(names: &[&'names str]) -> Result<Vec<&'names str>> {
    ensure!(
        Path::new("/usr/bin/dpkg-query").exists(),
        "this system has no dpkg: the rig needs Debian 12 or 13; on another system run it in a Debian container with \
         --privileged"
    );
    let output = command(["dpkg-query", "-W", "-f", "${Package} ${Status}\\n"]).args(names).run()?;
    let installed =
        |name: &str| output.stdout.lines().any(|line| line.strip_prefix(name) == Some(" install ok installed"));
    Ok(names.iter().copied().filter(|name| !installed(name)).collect())
}

/// Installs what is missing of `names` with apt-get, and says so.
pub fn require(names: &[&str]) -> Result<()> {
    let lacking = missing(names)?;
    if lacking.is_empty() {
        return Ok(());
    }
    let list = lacking.join(" ");
    writeln!(io::stderr(), "installing packages: {list}")?;
    let apt = |words: &[&str]| {
        command(["apt-get", "-q", "-y"])
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .within(APT)
            .text()
            .with_context(|| format!("cannot install {list}; mend apt, or install them by hand, and start again"))
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"], lacking.as_slice()].concat())?;
    let still = missing(names)?;
    ensure!(still.is_empty(), "apt-get reported success, but these packages are still missing: {}", still.join(" "));
    Ok(())
}

/// Unpacks packages, and installs the libraries that they need and not themselves: a server that is installed is started.
pub fn unpack(names: &[&str], to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    command(["apt-get", "-q", "update"]).within(APT).text()?;
    command(["apt-get", "-q", "download"]).args(names).directory(to).within(APT).text()?;
    let found = fs::read_dir(to)?.flatten().map(|entry| entry.path());
    for package in found.filter(|path| path.extension().is_some_and(|ending| ending == "deb")) {
        let needed = command(["dpkg-deb", "--field"]).arg(&package).arg("Depends").text()?;
        require(&libraries(&needed))?;
        command(["dpkg-deb", "--extract"]).args([package.as_path(), to]).within(APT).text()?;
        fs::remove_file(package)?;
    }
    Ok(())
}

/// Those of the field Depends (deb-control(5)) that programs are linked with; the compiler of LLVM is loaded when one is used.
fn libraries(depends: &str) -> Vec<&str> {
    let names = depends.split(',').filter_map(|entry| entry.split('|').next()).map(str::trim);
    let names = names.filter_map(|entry| entry.split([' ', ':']).next());
    names.filter(|name| name.starts_with("lib") && !name.starts_with("libllvm")).collect()
}

#[cfg(test)]
mod tests {
    use super::{libraries, missing};

    #[test]
    fn what_a_package_is_linked_with() {
        let depends =
            "postgresql-client-15, libc6 (>= 2.36), libicu72 (>= 72.1~rc-1~), libllvm14, libgcc-s1:any | libgcc1\n";
        assert_eq!(libraries(depends), ["libc6", "libicu72", "libgcc-s1"]);
    }

    #[test]
    fn a_package_that_cannot_exist_is_missing_and_dpkg_is_not() {
        assert_eq!(missing(&["dpkg", "no-such-package"]).unwrap(), ["no-such-package"]);
    }
}
