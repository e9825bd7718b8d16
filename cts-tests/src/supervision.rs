//! What really runs of a tree of services: the witness is /proc, and where it says more, the real svstat and svok.
//!
//! Process ids are those of this process's PID namespace, for a node's services too; only what svstat prints and what the
//! services write down are ids inside the node.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::command::{Command, command};
use crate::daemontools::Places;
use crate::disk::{self, Item};
use crate::node::Node;
use crate::{process, wait};

/// What svscan and supervise need for anything: 5 s until svscan looks, 1 s until supervise starts.
pub const AMPLE: Duration = Duration::from_secs(20);

/// A tree of services in this namespace or in a node.
#[derive(Clone, Debug)]
pub struct Supervision<'node> {
    node: Option<&'node Node>,
    places: Places,
}

/// A process that belongs to the tree: by its directory, or by a path on its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its command line.
    pub arguments: Vec<String>,
    /// Its working directory.
    pub directory: String,
    /// The service, `NAME` or `NAME/log`; none for svscan.
    pub service: Option<String>,
}

impl Process {
    fn is(&self, program: &str) -> bool {
        self.arguments.first().is_some_and(|word| word.rsplit('/').next() == Some(program))
    }
}

/// What svstat says of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svstat {
    /// The process, when it is up.
    pub pid: Option<u32>,
    /// For how long it has been so; none when supervise does not run.
    pub seconds: Option<u64>,
    /// Everything behind the service's path.
    pub words: String,
}

impl Svstat {
    fn parse(line: &str) -> Result<Self> {
        let (_, words) = line.trim_end().split_once(": ").with_context(|| format!("svstat said: {line}"))?;
        let number = |text: Option<&str>| text?.parse().ok();
        let pid = words.split_once("(pid ").and_then(|(_, rest)| number(rest.split(')').next()));
        let seconds = words.split_once(" seconds").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
        Ok(Self { pid, seconds, words: words.to_owned() })
    }
}

impl<'node> Supervision<'node> {
    /// In this process's namespaces.
    pub fn here(places: Places) -> Self {
        Self { node: None, places }
    }

    /// In a node.
    pub fn of(node: &'node Node, places: Places) -> Self {
        Self { node: Some(node), places }
    }

    /// Where its parts are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Lays files, programs and links down where the services are.
    pub fn lay_down(&self, items: &[Item]) -> Result<()> {
        disk::lay_down(&self.file("/")?, items)
    }

    /// Runs svscan as a daemon in a session of its own, as at boot.
    pub fn start_svscan(&self) -> Result<()> {
        self.command(&["setsid", "--fork", "svscan", &self.places.scan])?.text()?;
        let runs = || Ok(self.svscan()?.is_some());
        wait::until("svscan to run", AMPLE, wait::QUICK, runs).map(drop)
    }

    /// svscan's process.
    pub fn svscan(&self) -> Result<Option<u32>> {
        self.parent_of_all(|one| one.is("svscan") && one.service.is_none())
    }

    /// The supervise of a service, `NAME` or `NAME/log`.
    pub fn supervise(&self, service: &str) -> Result<Option<u32>> {
        self.parent_of_all(|one| one.is("supervise") && one.service.as_deref() == Some(service))
    }

    /// The one such process; a child of it that has not come to exec yet looks just like it.
    fn parent_of_all(&self, wanted: impl Fn(&Process) -> bool) -> Result<Option<u32>> {
        let found: Vec<_> = self.processes()?.into_iter().filter(wanted).collect();
        let known: Vec<_> = found.iter().map(|one| one.pid).collect();
        let parents: Vec<_> = found.iter().filter(|one| !known.contains(&one.parent)).collect();
        match parents[..] {
            [] => Ok(None),
            [one] => Ok(Some(one.pid)),
            _ => bail!("one was expected of these: {parents:#?}"),
        }
    }

    /// The process that supervise has started for a service and has not seen end.
    pub fn process_of(&self, service: &str) -> Result<Option<u32>> {
        Ok(self.supervise(service)?.and_then(|supervise| process::children(supervise).first().copied()))
    }

    /// Kills svscan; its services go on.
    pub fn kill_svscan(&self) -> Result<()> {
        let pid = self.svscan()?.context("svscan does not run")?;
        self.kill(pid)
    }

    /// Kills the supervise of a service, which goes on without; svscan starts another within 5 s.
    pub fn kill_supervise(&self, service: &str) -> Result<()> {
        let pid = self.supervise(service)?.with_context(|| format!("no supervise runs for {service}"))?;
        self.kill(pid)
    }

    fn kill(&self, pid: u32) -> Result<()> {
        process::signal(pid, Signal::SIGKILL)?;
        let gone = || Ok(self.processes()?.iter().all(|one| one.pid != pid));
        wait::until("a killed process to be gone", AMPLE, wait::QUICK, gone).map(drop)
    }

    /// Runs svc(8) with these options for these services, `NAME` or `NAME/log`. It succeeds whatever comes of it.
    pub fn svc(&self, options: &str, services: &[&str]) -> Result<()> {
        let entries = services.iter().map(|service| self.places.entry(service));
        self.command(&["svc", options])?.args(entries).text().map(drop)
    }

    /// Whether svok(8) finds a supervise.
    pub fn svok(&self, service: &str) -> Result<bool> {
        let output = self.command(&["svok", &self.places.entry(service)])?.run()?;
        match output.code() {
            Some(0) => Ok(true),
            Some(100) => Ok(false),
            _ => bail!("svok {service}: {}: {}", output.status, output.all().trim()),
        }
    }

    /// What svstat(8) says of a service.
    pub fn svstat(&self, service: &str) -> Result<Svstat> {
        Svstat::parse(&self.command(&["svstat", &self.places.entry(service)])?.text()?)
    }

    /// Every process of the services themselves, with the service's name: without svscan, supervise and the loggers, and
    /// with what a service has started and left behind.
    pub fn running(&self) -> Result<Vec<(String, u32)>> {
        let own = |one: Process| {
            let other = one.is("supervise") || one.is("svscan");
            one.service.clone().filter(|name| !other && !name.ends_with("/log")).map(|name| (name, one.pid))
        };
        let mut found: Vec<_> = self.processes()?.into_iter().filter_map(own).collect();
        found.sort();
        Ok(found)
    }

    /// The names of the services of which a process runs, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<_> = self.running()?.into_iter().map(|(name, _)| name).collect();
        names.dedup();
        Ok(names)
    }

    /// Waits until just these services run (sorted).
    pub fn wait_names(&self, expected: &[&str]) -> Result<()> {
        let mut seen = Vec::new();
        let waited = wait::until("the right services to run", AMPLE, wait::QUICK, || {
            seen = self.names()?;
            Ok(seen == expected)
        });
        waited.map(drop).with_context(|| format!("expected {expected:?}, and there run {seen:?}"))
    }

    /// Everything that belongs to the tree: svscan, every supervise, the services and what they left behind, the loggers.
    /// A zombie has neither a directory nor a command line and is not among them.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let init = self.node.map_or_else(|| Ok(std::process::id()), Node::init)?;
        let others = process::of_namespace(init)?.into_iter().filter(|pid| *pid != init);
        Ok(others.filter_map(|pid| self.belonging(pid)).collect())
    }

    fn belonging(&self, pid: u32) -> Option<Process> {
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).ok()?.to_string_lossy().into_owned();
        let (arguments, parent) = (process::arguments(pid), process::parent(pid)?);
        let homes = format!("{}/", self.places.homes);
        let service = |path: &str| {
            let mut parts = path.strip_prefix(&homes)?.split('/');
            let (name, log) = (parts.next()?, parts.next() == Some("log"));
            Some(if log { format!("{name}/log") } else { name.to_owned() })
        };
        let service = service(&directory).or_else(|| arguments.iter().find_map(|word| service(word)));
        let scan = directory == self.places.scan;
        (service.is_some() || scan).then_some(Process { pid, parent, arguments, directory, service })
    }

    /// No process may belong to the tree.
    pub fn nothing_is_left(&self) -> Result<()> {
        let left = self.processes()?;
        ensure!(left.is_empty(), "processes of the services are left: {left:#?}");
        Ok(())
    }

    /// Kills whatever belongs to the tree, svscan first, until nothing is left.
    pub fn kill_everything(&self) -> Result<()> {
        wait::until("every process of the services to be gone", AMPLE, wait::QUICK, || {
            let mut left = self.processes()?;
            left.sort_by_key(|one| (!one.is("svscan"), !one.is("supervise")));
            left.iter().try_for_each(|one| process::signal(one.pid, Signal::SIGKILL))?;
            Ok(left.is_empty())
        })
        .map(drop)
    }

    /// How often a service was started since its directory was laid down.
    pub fn starts(&self, service: &str) -> Result<usize> {
        Ok(self.read(&format!("{}/starts", self.places.home(service)))?.lines().count())
    }

    /// What a service with a log has printed, each line with the time in TAI64N before it (multilog(8)).
    pub fn log(&self, service: &str) -> Result<String> {
        self.read(&format!("{}/log/main/current", self.places.home(service)))
    }

    /// The calls of hvmail_init and greenarrow_status, oldest first.
    pub fn calls(&self) -> Result<Vec<String>> {
        Ok(self.read(&self.places.calls)?.lines().map(str::to_owned).collect())
    }

    /// A file of the tree; empty when it is not there (yet).
    pub fn read(&self, path: &str) -> Result<String> {
        match fs::read_to_string(self.file(path)?) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot read {path}"))
            }
            read => Ok(read.unwrap_or_default()),
        }
    }

    /// A command line where the services are, with a bare environment.
    pub fn command(&self, argv: &[&str]) -> Result<Command> {
        self.node.map_or_else(|| Ok(command(argv).bare_environment()), |node| node.command(argv))
    }

    fn file(&self, path: &str) -> Result<PathBuf> {
        self.node.map_or_else(|| Ok(PathBuf::from(path)), |node| node.path(path))
    }
}

#[cfg(test)]
mod tests {
    use super::Svstat;

    #[test]
    fn lines_of_svstat() {
        let parsed = |line| {
            let svstat = Svstat::parse(line).unwrap();
            (svstat.pid, svstat.seconds)
        };
        assert_eq!(parsed("/service/a: up (pid 20833) 12 seconds\n"), (Some(20833), Some(12)));
        assert_eq!(parsed("/service/a: up (pid 7) 0 seconds, normally down, want down\n"), (Some(7), Some(0)));
        assert_eq!(parsed("/service/a: down 3 seconds, normally up\n"), (None, Some(3)));
        assert_eq!(parsed("/service/a: supervise not running\n"), (None, None));
        assert!(Svstat::parse("").is_err());
    }
}
