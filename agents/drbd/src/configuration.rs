//! drbd.conf, as drbdadm understands it, and whether it still does.
//!
//! drbdadm is the only one that reads it: `dump-xml` prints what it means. Without a change of its files nobody is asked again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use nix::sys::utsname::uname;
use ocf::{Deadline, Failure, Output, Program, Run};

use crate::dump_xml::Configuration;
use crate::parameters::Settings;

/// The files as they were when drbdadm last understood them.
const KIND: &str = "configuration";
/// How long a monitor waits for drbdadm, which needs some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// `include` may lead in a circle.
const DEEPEST: usize = 8;

impl Configuration {
    /// Asks drbdadm.
    pub(crate) fn read(run: &Run, settings: &Settings) -> Result<Self, Failure> {
        let output = adm(settings, &["dump-xml", &settings.name], run.deadline)?;
        if !output.status.success() {
            return Err(Failure::not_installed(unusable(settings, &output)));
        }
        let mut found = Self::parse(&output.stdout, &own_name())?;
        // Asked for one resource, drbdadm does not print what is common to all.
        let all = adm(settings, &["dump-xml"], run.deadline)?;
        if all.status.success() {
            let common = Self::parse_common(&all.stdout)?;
            found.options = common.into_iter().chain(found.options).collect();
        }
        Ok(found)
    }
}

/// This node's name, as drbd.conf means it.
pub(crate) fn own_name() -> String {
    uname().map(|names| names.nodename().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs drbdadm with the resource's drbd.conf; once more with -S where that is the only way to a resource that lies upon another.
pub(crate) fn adm(settings: &Settings, words: &[&str], deadline: Deadline) -> Result<Output> {
    let run = |stacked: &[&'static str]| {
        let program = Program::new("drbdadm").args([Path::new("-c"), &settings.drbdconf]).args(stacked.iter().copied());
        let program = program.args(words.iter().copied());
        // linbit's handler unfence-peer takes them from its environment.
        let program = program.variable("OCF_RESKEY_unfence_extra_args", &settings.unfence_extra_args);
        // The module's version is none of what it is asked for here.
        program.variable("DRBD_DONT_WARN_ON_VERSION_MISMATCH", "1").run(deadline)
    };
    let output = run(&[])?;
    if !wants_stacked(&output.stderr) || output.status.success() {
        return Ok(output);
    }
    let stacked = run(&["-S"])?;
    Ok(if wants_stacked(&stacked.stderr) { output } else { stacked })
}

/// "'r1' is a stacked resource, and not available in normal mode." of 8.4; others just do not find it.
fn wants_stacked(words: &str) -> bool {
    ["is a stacked resource", "not defined in your config"].iter().any(|known| words.contains(known))
}

fn unusable(settings: &Settings, output: &Output) -> String {
    format!("{} is not usable: {}", settings.drbdconf.display(), drbdadms_words(output))
}

/// What it says, without what other programs say that it starts.
pub(crate) fn drbdadms_words(output: &Output) -> String {
    let lines = output.stderr.lines().filter(|line| !line.contains("modinfo"));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// What is wrong with drbd.conf, for a monitor: drbdadm is started only when one of its files has changed since it was usable. What
/// is wrong may have been drbdadm itself, which mends itself without a change of the files.
pub(crate) fn fault(run: &Run, settings: &Settings) -> Option<String> {
    let now = fingerprint(&settings.drbdconf);
    if run.store.read(KIND).is_ok_and(|usable| usable.is_some_and(|usable| usable == now)) {
        return None;
    }
    let deadline = run.deadline.at_most(PATIENCE.min(run.deadline.remaining() / 2));
    match adm(settings, &["dump-xml", &settings.name], deadline) {
        Ok(output) if output.status.success() => {
            // What cannot be kept is asked for again.
            let _ = run.store.write(KIND, &now);
            None
        }
        Ok(output) => Some(unusable(settings, &output)),
        Err(error) => Some(format!("{} cannot be checked: {error:#}", settings.drbdconf.display())),
    }
}

/// Changes when one of the files does that drbd.conf consists of.
fn fingerprint(file: &Path) -> String {
    let mut words = Vec::new();
    add(file, &mut words, DEEPEST);
    words.join(" ")
}

fn add(file: &Path, words: &mut Vec<String>, depth: usize) {
    let Ok(facts) = fs::metadata(file) else { return words.push(format!("{}:gone", file.display())) };
    let (seconds, nanoseconds) = (facts.mtime(), facts.mtime_nsec());
    words.push(format!("{}:{}:{}:{seconds}.{nanoseconds}", file.display(), facts.ino(), facts.len()));
    let Ok(text) = fs::read_to_string(file) else { return };
    if depth == 0 {
        return;
    }
    for pattern in included(&text) {
        for path in matching(file.parent().unwrap_or(Path::new("/")), &pattern) {
            add(&path, words, depth - 1);
        }
    }
}

/// The patterns of the lines `include "drbd.d/*.res";`.
fn included(text: &str) -> Vec<String> {
    let after = text.lines().filter_map(|line| line.trim_start().strip_prefix("include"));
    let quoted = after.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split_once('"'));
    quoted.map(|(pattern, _)| pattern.to_owned()).collect()
}

/// The files that an include means: * in the last part of the path, as the files of every distribution have it.
fn matching(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = directory.join(pattern);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let Some((before, after)) = name.split_once('*') else { return vec![path] };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let matches = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
    };
    let mut found: Vec<PathBuf> = entries.filter(matches).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of drbdadm of DRBD 8.4 in drbd-utils 9.22.
    #[test]
    fn a_stacked_resource_is_asked_for_as_one() {
        assert!(wants_stacked("'r1' is a stacked resource, and not available in normal mode.\n"));
        assert!(wants_stacked("'r9' not defined in your config (for this host).\n"));
        assert!(!wants_stacked("/etc/drbd.d/r0.res:9: Parse error: ... but got 'frob'\n"));
    }

    #[test]
    fn includes_are_those_at_the_beginning_of_a_line() {
        let text =
            "# include \"no\";\n include \"drbd.d/*.res\";\ninclude\t\"/x/y\";\nresource include {}\ninclude x;\n";
        assert_eq!(included(text), ["drbd.d/*.res", "/x/y"]);
    }
}
