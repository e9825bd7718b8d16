//! What the handler is told: by its arguments, in the words of crm-fence-peer.9.sh, and by drbdadm through the environment.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::utsname::uname;
use ocf::{Deadline, Log};

pub(crate) const HELP: &str = "\
Usage: greenarrow-drbd-fence fence|unfence [OPTION]…

The handlers fence-peer, and unfence-peer or after-resync-target, of drbd.conf: keeps nodes with old data from being
promoted by Pacemaker, and allows it again. See ocf_greenarrow_drbd(7), section Fencing.

  -r, --resource NAME        DRBD resource (default: $DRBD_RESOURCE)
  -i, --master-id ID         promotable clone (default: the one with that drbd_resource)
  -l, --role ROLE            role to forbid (default: Promoted)
  -a, --fencing-attribute A  node attribute of the rule (default: #uname)
  -p, --id-prefix PREFIX     of the constraint (default: drbd-fence-by-handler)
  -t, --timeout SECONDS      how long to wait for the peer to be fenced (default: 90)
  -d, --dc-timeout SECONDS   how long to wait for the cluster to answer (default: 20)
      --network-hickup SECONDS  how long to hope for a reachable peer's link (default: 0)
      --unfence-only-if-owner-match  leave a constraint that rejects this node
      --flock-timeout SECONDS, --flock-required, --lock-dir DIR, --lock-file FILE
      --quiet, --logfacility NAME    accepted, without effect
Exit status of fence: 4 peer outdated by the constraint, 5 peer not reachable, 7 peer fenced, 1 nothing is sure.
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Fence,
    Unfence,
}

impl Task {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Unfence => "unfence",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) task: Task,
    pub(crate) resource: String,
    pub(crate) clone: Option<String>,
    pub(crate) role: String,
    pub(crate) attribute: String,
    prefix: String,
    pub(crate) timeout: Duration,
    pub(crate) dc_timeout: Duration,
    pub(crate) hiccup: Duration,
    pub(crate) only_if_owner: bool,
    flock_timeout: Duration,
    flock_required: bool,
    lock_directory: PathBuf,
    lock_file: Option<PathBuf>,
    /// This node.
    pub(crate) own: String,
    /// 8.4: the peer's host name, where drbdadm knows it.
    pub(crate) peer: Option<String>,
    /// 8.4: the minors of the resource.
    pub(crate) minors: Vec<u32>,
    /// The drbd.conf in which drbdadm has found it.
    pub(crate) configuration: Option<PathBuf>,
    /// DRBD 9: which nodes have good data, by node id, and who they are.
    pub(crate) up_to_date: Option<u32>,
    pub(crate) node_ids: BTreeMap<u32, String>,
    pub(crate) ignored: Vec<String>,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Options {
    /// None: help is wanted.
    pub(crate) fn read(arguments: impl Iterator<Item = String>, environment: Environment) -> Result<Option<Self>> {
        let mut options = Self::of_drbdadm(environment)?;
        let mut task = None;
        let extra = environment("OCF_RESKEY_unfence_extra_args").unwrap_or_default();
        let extra: Vec<String> = extra.split_whitespace().map(str::to_owned).collect();
        let mut words = arguments.chain(extra);
        while let Some(word) = words.next() {
            let (name, mut value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (word.clone(), None),
            };
            match name.as_str() {
                "fence" if task.is_none() => task = Some(Task::Fence),
                "unfence" if task.is_none() => task = Some(Task::Unfence),
                "-h" | "--help" => return Ok(None),
                "--quiet" => {}
                "--unfence-only-if-owner-match" => options.only_if_owner = true,
                "--flock-required" => options.flock_required = true,
                other => {
                    if !takes_value(other) {
                        options.ignored.push(word);
                        continue;
                    }
                    let value =
                        value.take().or_else(|| words.next()).with_context(|| format!("{name} needs a value"))?;
                    options.set(other, &value)?;
                }
            }
        }
        options.task = task.context("fence or unfence is wanted as the first argument; see --help")?;
        if options.resource.is_empty() {
            bail!("which resource? drbdadm sets DRBD_RESOURCE; by hand give --resource");
        }
        Ok(Some(options))
    }

    fn of_drbdadm(environment: Environment) -> Result<Self> {
        let mask = environment("UP_TO_DATE_NODES").map(|mask| {
            let digits = mask.strip_prefix("0x").map(|digits| u32::from_str_radix(digits, 16));
            digits.and_then(Result::ok).with_context(|| format!("UP_TO_DATE_NODES={mask} is not a mask such as 0x3"))
        });
        let minors = environment("DRBD_MINOR").unwrap_or_default();
        let node_ids = (0..32).filter_map(|id| Some((id, environment(&format!("DRBD_NODE_ID_{id}"))?))).collect();
        Ok(Self {
            task: Task::Fence,
            resource: environment("DRBD_RESOURCE").unwrap_or_default(),
            clone: None,
            role: "Promoted".to_owned(),
            attribute: "#uname".to_owned(),
            prefix: "drbd-fence-by-handler".to_owned(),
            timeout: Duration::from_secs(90),
            dc_timeout: Duration::from_secs(20),
            hiccup: Duration::ZERO,
            only_if_owner: false,
            flock_timeout: Duration::from_secs(120),
            flock_required: false,
            lock_directory: "/var/lock/drbd".into(),
            lock_file: None,
            own: uname().map(|names| names.nodename().to_string_lossy().into_owned()).unwrap_or_default(),
            // Several for a resource with more than two hosts: nobody knows then who is meant.
            peer: environment("DRBD_PEER").filter(|peer| !peer.contains(' ')),
            minors: minors.split_whitespace().filter_map(|minor| minor.parse().ok()).collect(),
            configuration: environment("DRBD_CONF").map(PathBuf::from),
            up_to_date: mask.transpose()?,
            node_ids,
            ignored: Vec::new(),
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let seconds =
            || value.parse().map(Duration::from_secs).with_context(|| format!("{name} {value}: seconds are wanted"));
        match name {
            "-r" | "--resource" => value.clone_into(&mut self.resource),
            "-i" | "--master-id" => self.clone = Some(value.to_owned()),
            "-l" | "--role" => value.clone_into(&mut self.role),
            "-a" | "--fencing-attribute" => value.clone_into(&mut self.attribute),
            "-p" | "--id-prefix" => value.clone_into(&mut self.prefix),
            "-t" | "--timeout" => self.timeout = seconds()?,
            "-d" | "--dc-timeout" => self.dc_timeout = seconds()?,
            "--network-hickup" | "--net-hickup" => self.hiccup = seconds()?,
            "--flock-timeout" => self.flock_timeout = seconds()?,
            "--lock-dir" => self.lock_directory = value.into(),
            "--lock-file" => self.lock_file = Some(value.into()),
            _ => {}
        }
        Ok(())
    }

    /// With the resource's name in it: several resources in one clone are fenced apart.
    pub(crate) fn prefix(&self) -> String {
        let ending = format!("-{}", self.resource);
        if self.prefix.ends_with(&ending) { self.prefix.clone() } else { format!("{}{ending}", self.prefix) }
    }

    /// The nodes that may be promoted, each with the number that its expression has in the constraint.
    pub(crate) fn included(&self) -> Vec<(u32, String)> {
        match self.up_to_date {
            Some(mask) => self.node_ids.iter().filter(|(id, _)| mask & (1 << **id) != 0).map(owned).collect(),
            None => vec![(0, self.own.clone())],
        }
    }

    /// The nodes that must not be; None where 8.4 does not say who the peer is.
    pub(crate) fn excluded(&self) -> Option<Vec<String>> {
        match self.up_to_date {
            Some(mask) => {
                let others = self.node_ids.iter().filter(|(id, _)| mask & (1 << **id) == 0);
                Some(others.map(|(_, name)| name.clone()).collect())
            }
            None => self.peer.clone().map(|peer| vec![peer]),
        }
    }

    /// One handler of a resource at a time.
    pub(crate) fn lock(&self, log: &Log) -> Result<Option<Flock<File>>> {
        if self.lock_file.as_ref().is_some_and(|file| file.as_os_str() == "NONE") {
            return Ok(None);
        }
        let name = format!("fence.{}", self.resource.replace('/', "_"));
        let file = self.lock_directory.join(self.lock_file.clone().unwrap_or_else(|| name.into()));
        let locked = self.take(&file);
        match locked {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if self.flock_required => Err(error),
            Err(error) => {
                log.warning(&format!("{error:#}; going on without it"));
                Ok(None)
            }
        }
    }

    fn take(&self, path: &PathBuf) -> Result<Flock<File>> {
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let deadline = Deadline::after(self.flock_timeout);
        loop {
            let mut options = OpenOptions::new();
            let opened = options.write(true).create(true).truncate(false).mode(0o600).open(path);
            let file = opened.with_context(|| format!("cannot open the lock file {}", path.display()))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err(_) if deadline.sleep(Duration::from_millis(50)) => {}
                Err((_, error)) => bail!("another handler holds {}: {error}", path.display()),
            }
        }
    }
}

fn owned((id, name): (&u32, &String)) -> (u32, String) {
    (*id, name.clone())
}

fn takes_value(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "-r",
        "--resource",
        "-i",
        "--master-id",
        "-l",
        "--role",
        "-a",
        "--fencing-attribute",
        "-p",
        "--id-prefix",
        "-t",
        "--timeout",
        "-d",
        "--dc-timeout",
        "--network-hickup",
        "--net-hickup",
        "--flock-timeout",
        "--lock-dir",
        "--lock-file",
        "--logfacility",
    ];
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str], variables: &[(&str, &str)]) -> Result<Option<Options>> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Options::read(words.iter().map(|word| (*word).to_owned()), &environment)
    }

    #[test]
    fn the_options_of_linbits_handler_are_understood() {
        let variables = [
            ("DRBD_RESOURCE", "r0"),
            ("DRBD_PEER", "n2"),
            ("DRBD_MINOR", "0 3"),
            ("OCF_RESKEY_unfence_extra_args", "--quiet -t 7"),
        ];
        let options = read(&["unfence", "--dc-timeout=3", "--unfence-only-if-owner-match", "--what"], &variables)
            .unwrap()
            .unwrap();
        assert_eq!(
            (options.task, options.timeout, options.dc_timeout),
            (Task::Unfence, Duration::from_secs(7), Duration::from_secs(3))
        );
        assert_eq!((options.minors.as_slice(), options.only_if_owner), ([0, 3].as_slice(), true));
        assert_eq!(
            (options.prefix().as_str(), options.ignored.as_slice()),
            ("drbd-fence-by-handler-r0", ["--what".to_owned()].as_slice())
        );
        assert_eq!(options.excluded(), Some(vec!["n2".to_owned()]));
        assert!(read(&["-h"], &[]).unwrap().is_none());
        for wrong in [vec!["fence"], vec![], vec!["fence", "-t"], vec!["fence", "-t", "x"]] {
            assert!(read(&wrong, &[]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn drbd_9_says_who_has_good_data() {
        let variables = [
            ("DRBD_RESOURCE", "r0"),
            ("UP_TO_DATE_NODES", "0x00000005"),
            ("DRBD_NODE_ID_0", "n1"),
            ("DRBD_NODE_ID_1", "n2"),
            ("DRBD_NODE_ID_2", "n3"),
        ];
        let options = read(&["fence"], &variables).unwrap().unwrap();
        assert_eq!(options.included(), [(0, "n1".to_owned()), (2, "n3".to_owned())]);
        assert_eq!(options.excluded(), Some(vec!["n2".to_owned()]));
        assert!(read(&["fence"], &[("DRBD_RESOURCE", "r0"), ("UP_TO_DATE_NODES", "3")]).is_err());
    }

    #[test]
    fn a_lock_that_is_held_is_waited_for_and_then_missed_or_missed_out() {
        let directory = std::env::temp_dir().join(format!("fence-lock-{}", std::process::id()));
        let words = |last: &'static str| {
            vec![
                "fence".to_owned(),
                "--lock-dir".into(),
                directory.display().to_string(),
                "--flock-timeout=0".into(),
                last.into(),
            ]
        };
        let options = |last| {
            let environment = |name: &str| (name == "DRBD_RESOURCE").then(|| "r0".to_owned());
            Options::read(words(last).into_iter(), &environment).unwrap().unwrap()
        };
        let log = Log::of_program("test");
        let held = options("--quiet").lock(&log).unwrap();
        assert!(held.is_some());
        assert!(options("--flock-required").lock(&log).is_err());
        assert!(options("--quiet").lock(&log).unwrap().is_none());
        drop(held);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
