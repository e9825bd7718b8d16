//! The services of the scan directory: which there are, and what can be seen of each.
//!
//! The list is read anew at each action, because GreenArrow's whole list is not public and changes with its versions. A
//! service and its log (svscan pairs `NAME` with `NAME/log`) are two units, each with a supervise of its own.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::guard;
use crate::parameters::Settings;
use crate::record::Life;
use crate::supervise::{Liveness, Opened, Place, Status, Want};

/// A directory that a supervise looks after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    /// `NAME`, or `NAME/log` for a log.
    pub(crate) name: String,
    /// The directory in the scan directory, which may be reached through symbolic links.
    pub(crate) directory: PathBuf,
    pub(crate) log: bool,
}

/// The `down` file that keeps supervise from starting a service by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DownFile {
    None,
    /// Put there by this agent.
    Guard,
    /// Put there by GreenArrow or by a person: the service is not to run.
    Theirs,
}

/// Why a unit cannot be seen, or cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What its name leads to is not there: as a rule its file system is not mounted, which is as it should be on a node
    /// that is not the Primary.
    Absent(String),
    /// Anything else.
    Broken(String),
}

impl Fault {
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Absent(words) | Self::Broken(words) => words,
        }
    }
}

/// What can be seen of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) unit: Unit,
    /// A supervise runs for it.
    pub(crate) supervised: bool,
    /// What its supervise wrote last; stale when none runs.
    pub(crate) status: Option<Status>,
    pub(crate) down_file: DownFile,
    pub(crate) fault: Option<Fault>,
}

impl Look {
    /// The process that its living supervise has started.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.status.filter(|_| self.supervised).and_then(|status| status.pid)
    }

    /// The process that its supervise had started when it died; it may have ended long since.
    pub(crate) fn abandoned(&self) -> Option<Life> {
        self.status.filter(|_| !self.supervised).and_then(Life::of)
    }

    /// Whether supervise would start it whenever it ends.
    pub(crate) fn wanted_up(&self) -> bool {
        self.supervised && self.status.is_some_and(|status| status.want == Want::Up)
    }
}

/// Everything that matches the parameters, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scan {
    /// In the order of their names; a log follows its service.
    pub(crate) looks: Vec<Look>,
    /// Why the scan directory itself cannot be read.
    pub(crate) fault: Option<Fault>,
}

impl Scan {
    /// Looks at every unit.
    pub(crate) fn take(settings: &Settings) -> Self {
        let names = match names(settings) {
            Ok(names) => names,
            Err(fault) => return Self { looks: Vec::new(), fault: Some(fault) },
        };
        let mut looks = Vec::with_capacity(names.len() * 2);
        for name in names {
            let directory = settings.service_dir.join(&name);
            let opened = Opened::new(&directory);
            let log = Unit { name: [&name, "/log"].concat(), directory: directory.join("log"), log: true };
            let service = look_through(Unit { name, directory, log: false }, opened.as_ref());
            let reachable = service.fault.is_none();
            looks.push(service);
            if reachable {
                looks.extend(look_at_log(log, opened.as_ref()));
            }
        }
        Self { looks, fault: None }
    }

    /// Those of these units that are there, looked at again.
    pub(crate) fn again(units: &[Unit]) -> Vec<Look> {
        units.iter().cloned().map(look).collect()
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Look> {
        self.looks.iter().filter(|look| !look.unit.log)
    }
}

fn names(settings: &Settings) -> Result<Vec<String>, Fault> {
    let path = &settings.service_dir;
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| unreadable(path, &error))?.file_name();
        // A name that is not text is not one of GreenArrow's.
        let Some(name) = name.to_str().filter(|name| !name.contains(char::is_control)) else { continue };
        if !name.starts_with('.') && settings.pattern.matches(name) && !settings.exclude.matches(name) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    let shown = path.display();
    match (error.kind(), fs::read_link(path)) {
        (ErrorKind::NotFound, Ok(target)) => not_there(path, &target),
        (ErrorKind::NotFound, _) => {
            Fault::Broken(format!("{shown} does not exist: is GreenArrow installed on this node?"))
        }
        _ => Fault::Broken(format!("cannot read {shown}: {error}")),
    }
}

fn not_there(link: &Path, target: &Path) -> Fault {
    let (link, target) = (link.display(), target.display());
    Fault::Absent(format!(
        "{link} is a link to {target}, which is not there: is the file system that holds it mounted?"
    ))
}

fn look(unit: Unit) -> Look {
    look_through(unit, None)
}

/// So many services, for a sentence.
pub(crate) fn services(count: usize) -> String {
    if count == 1 { "1 service".to_owned() } else { format!("{count} services") }
}

/// In the usual case three files are opened or looked at, and nothing else: a monitor does this for each unit. Through the
/// directory of the service, if that could be opened; its name tells what is wrong otherwise.
fn look_through(unit: Unit, service: Option<&Opened>) -> Look {
    let place = service.map_or(Place::at(&unit.directory), |service| Place::of(&unit.directory, service, unit.log));
    let seen = place.liveness();
    let supervised = seen == Liveness::Alive;
    let (mut status, mut fault) = (None, None);
    match seen {
        Liveness::Unknown(words) => fault = Some(Fault::Broken(words)),
        Liveness::Never => fault = hindrance(&unit.directory),
        Liveness::Alive | Liveness::Dead => match place.status() {
            Ok(found) => status = found,
            Err(words) => fault = Some(Fault::Broken(words)),
        },
    }
    let down_file = guard::down_file(&place);
    let mut look = Look { unit, supervised, status, down_file, fault };
    if look.fault.is_none() && look.pid().is_none() {
        look.fault = hindrance(&look.unit.directory);
    }
    look
}

fn look_at_log(unit: Unit, service: Option<&Opened>) -> Option<Look> {
    let look = look_through(unit, service);
    // Most directories without a supervise for a log have no log.
    let exists = look.supervised || look.status.is_some() || look.unit.directory.exists();
    exists.then_some(look)
}

/// Why nothing can be run from this directory.
fn hindrance(directory: &Path) -> Option<Fault> {
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(facts) if facts.is_dir() => {}
        Ok(_) => return Some(Fault::Broken(format!("{shown} is not a directory"))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some(match fs::read_link(directory) {
                Ok(target) => not_there(directory, &target),
                Err(_) => Fault::Broken(format!("{shown} does not exist")),
            });
        }
        Err(error) => return Some(Fault::Broken(format!("cannot look at {shown}: {error}"))),
    }
    let run = directory.join("run");
    let run_shown = run.display();
    let broken = match fs::metadata(&run) {
        Ok(facts) if facts.is_file() && facts.mode() & 0o111 != 0 => return None,
        Ok(facts) if facts.is_file() => format!("{run_shown} is not executable: chmod 755 it"),
        Ok(_) => format!("{run_shown} is not a file"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            format!("{run_shown} is missing; reinstall it, or exclude the service")
        }
        Err(error) => format!("cannot look at {run_shown}: {error}"),
    };
    Some(Fault::Broken(broken))
}
