//! The kernel module, and why it cannot be loaded: after an update of the kernel, or of the package, the one often does not
//! fit the other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::utsname::uname;
use ocf::{Deadline, Done, Failure, Program, Run};

use crate::configuration::adm;
use crate::parameters::Settings;
use crate::proc_drbd::{ProcDrbd, Version};

const MODULES: &str = "/lib/modules";
/// Below /lib/modules/KERNEL it is in kernel/drivers/block/drbd, extra/drbd, updates/dkms, weak-updates/drbd84 and the like.
const DEEPEST: usize = 6;

/// Loads the module unless it is loaded.
pub(crate) fn load(run: &Run, settings: &Settings) -> Done {
    if ProcDrbd::look()?.is_some() {
        return Ok(());
    }
    let mut words = vec!["drbd".to_owned()];
    if let Ok(output) = adm(settings, &["sh-mod-parms"], run.deadline)
        && output.status.success()
    {
        words.extend(output.stdout.split_whitespace().map(str::to_owned));
    }
    let said = match Program::new("modprobe").args(words).run(run.deadline) {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => output.stderr,
        Err(error) => format!("{error:#}"),
    };
    Err(Failure::not_installed(diagnosis(&Installed::look(run.deadline), &said)))
}

/// Whether a start could load it, for validate.
pub(crate) fn available(run: &Run) -> Done {
    if ProcDrbd::look()?.is_some() {
        return Ok(());
    }
    let installed = Installed::look(run.deadline);
    let fits = installed.modules.iter().any(|module| module.kernel == installed.running);
    if fits { Ok(()) } else { Err(Failure::not_installed(diagnosis(&installed, "not tried"))) }
}

/// A module file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    kernel: String,
    path: PathBuf,
    /// The package that it came with.
    package: Option<String>,
}

/// What there is on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Installed {
    running: String,
    modules: Vec<Module>,
}

impl Installed {
    fn look(deadline: Deadline) -> Self {
        let running = uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
        let mut kernels: Vec<PathBuf> =
            fs::read_dir(MODULES).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        kernels.sort();
        let module = |directory: PathBuf| {
            let path = find(&directory, DEEPEST)?;
            let kernel = directory.file_name()?.to_string_lossy().into_owned();
            Some(Module { kernel, package: package(&path, deadline), path })
        };
        Self { running, modules: kernels.into_iter().filter_map(module).collect() }
    }
}

/// drbd.ko, perhaps compressed, perhaps a link of weak-modules.
fn find(directory: &Path, depth: usize) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    let is_module = |path: &&PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        matches!(name, "drbd.ko" | "drbd.ko.xz" | "drbd.ko.gz" | "drbd.ko.zst") && path.exists()
    };
    if let Some(found) = entries.iter().find(is_module) {
        return Some(found.clone());
    }
    // Links lead into the kernel's sources, among other places.
    let directories = entries.iter().filter(|path| path.is_dir() && !path.is_symlink());
    if depth == 0 { None } else { directories.into_iter().find_map(|path| find(path, depth - 1)) }
}

fn package(path: &Path, deadline: Deadline) -> Option<String> {
    let ask = |program: &str, words: &[&str]| -> Result<Option<String>> {
        let output = Program::new(program).args(words.iter().copied()).args([path.as_os_str()]).run(deadline)?;
        let line = output.stdout.lines().next().map(str::to_owned);
        Ok(line.filter(|_| output.status.success()))
    };
    let rpm = ask("rpm", &["-qf"]).ok().flatten();
    let dpkg = || ask("dpkg", &["-S"]).ok().flatten().and_then(|line| Some(line.split_once(": ")?.0.to_owned()));
    rpm.or_else(dpkg)
}

fn diagnosis(installed: &Installed, said: &str) -> String {
    let Installed { running, modules } = installed;
    let named = |module: &Module| match &module.package {
        Some(package) => format!("{} ({package})", module.kernel),
        None => module.kernel.clone(),
    };
    let list = modules.iter().map(named).collect::<Vec<_>>().join(", ");
    let what = if let Some(module) = modules.iter().find(|module| module.kernel == *running) {
        format!(
            "{} is there, but does not fit the kernel that runs; install the package of drbd built for it, or boot another kernel \
             that has one (of {list})",
            module.path.display()
        )
    } else if modules.is_empty() {
        "no kernel on this node has drbd.ko; install the module (such as kmod-drbd84 or kmod-drbd9x) for the running kernel"
            .to_owned()
    } else {
        format!("these have it: {list}. Either install the module for the running kernel, or boot one of those")
    };
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("can not load the drbd module ({said}): the running kernel is {running}; {what}")
}

/// What is wrong with the module's version, by the parameters require_drbd_module_version_ge and _lt.
pub(crate) fn unwanted(settings: &Settings, version: Version) -> Option<String> {
    let show = |(major, minor, patch): Version| format!("{major}.{minor}.{patch}");
    let (least, below) = (settings.version_ge, settings.version_lt);
    let wrong = match (least, below) {
        (Some(least), _) if version < least => format!("at least {} is required", show(least)),
        (_, Some(below)) if version >= below => format!("one below {} is required", show(below)),
        _ => return None,
    };
    Some(format!("the DRBD module is {}, and {wrong} (require_drbd_module_version)", show(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(kernels: &[(&str, Option<&str>)]) -> Installed {
        let module = |(kernel, package): &(&str, Option<&str>)| Module {
            kernel: (*kernel).into(),
            path: format!("/lib/modules/{kernel}/extra/drbd.ko").into(),
            package: package.map(str::to_owned),
        };
        Installed { running: "5.14.0-570".into(), modules: kernels.iter().map(module).collect() }
    }

    #[test]
    fn the_kernels_that_have_the_module_are_named_with_both_ways_out() {
        let said = diagnosis(&installed(&[("5.14.0-503", Some("kmod-drbd84-8.4.11-1.el9"))]), "Module drbd not found.");
        assert_eq!(
            said,
            "can not load the drbd module (Module drbd not found.): the running kernel is 5.14.0-570; these have it: \
             5.14.0-503 (kmod-drbd84-8.4.11-1.el9). Either install the module for the running kernel, or boot one of those"
        );
        assert!(diagnosis(&installed(&[]), "x").contains("no kernel on this node has drbd.ko"));
        assert!(diagnosis(&installed(&[("5.14.0-570", None)]), "x").contains("does not fit the kernel that runs"));
        // As it was captured with the file renamed, while modprobe had it in its list still.
        let said = diagnosis(&installed(&[]), include_str!("../captures/no-module-n1.modprobe"));
        let words = "can not load the drbd module (modprobe: ERROR: could not insert 'drbd': Unknown symbol in module, or \
                     unknown parameter (see dmesg)): the running kernel is 5.14.0-570; no kernel on this node has drbd.ko";
        assert!(said.starts_with(words), "{said}");
    }
}
