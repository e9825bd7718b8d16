//! State that is not in the kernel: one small file an instance, gone after a reboot, and the lock beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, geteuid};

use crate::deadline::Deadline;

/// A state file is a few kilobytes, with ten thousand addresses half a megabyte; what is larger is not ours.
const LARGEST: u64 = 16 << 20;
/// How long between two tries for a lock that somebody holds.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Time since boot, suspended time included: the clock for what a state file says of time, which no administrator sets
/// and which begins anew when the files do.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The state of one instance: files `AGENT-INSTANCE.KIND` in HA_RSCTMP.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    stem: String,
}

impl Store {
    /// The store of an instance. Characters that a file name should not have become `_XX`, their number.
    pub fn new(directory: PathBuf, agent: &str, instance: &str) -> Self {
        let mut stem = format!("{agent}-");
        for byte in instance.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b':' => stem.push(byte.into()),
                _ => stem.extend(["_".to_owned(), format!("{byte:02x}")]),
            }
        }
        Self { directory, stem }
    }

    /// The path of the file of that kind.
    pub fn path(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", self.stem))
    }

    /// What the file holds; None when there is none.
    pub fn read(&self, kind: &str) -> Result<Option<String>> {
        let path = self.path(kind);
        let mut options = OpenOptions::new();
        let opened = options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot open the state file {}", path.display())),
        };
        let length = is_ours(&file, &path)?;
        // With room for all of it: otherwise it is read in a dozen pieces.
        let mut text = String::with_capacity(usize::try_from(length.min(LARGEST)).unwrap_or(0) + 1);
        let size = file.take(LARGEST).read_to_string(&mut text);
        size.with_context(|| format!("cannot read the state file {}; remove it if it is damaged", path.display()))?;
        Ok(Some(text))
    }

    /// Puts `text` in place of what the file holds, wholly or not at all.
    pub fn write(&self, kind: &str, text: &str) -> Result<()> {
        let path = self.path(kind);
        let new = self.path(&format!("{kind}.{}", std::process::id()));
        let written = self.create(&new).and_then(|mut file| Ok(file.write_all(text.as_bytes())?));
        let placed = written.and_then(|()| Ok(fs::rename(&new, &path)?));
        if placed.is_err() {
            let _ = fs::remove_file(&new);
        }
        placed.with_context(|| format!("cannot write the state file {}", path.display()))
    }

    /// Takes the file away; it is no error when there is none.
    pub fn remove(&self, kind: &str) -> Result<()> {
        let path = self.path(kind);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove the state file {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// A new file that nobody put there before: the directory is shared with other agents.
    fn create(&self, path: &Path) -> Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        self.make_directory()?;
        match options.open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // A process of this number was killed between creating and renaming.
                fs::remove_file(path)?;
                Ok(options.open(path)?)
            }
            opened => Ok(opened?),
        }
    }

    /// Pacemaker's packages make the directory at boot; a node without them has none.
    fn make_directory(&self) -> Result<()> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory);
        made.with_context(|| format!("cannot create the state directory {}", self.directory.display()))
    }

    /// Takes the lock of that kind, waiting for who holds it until the deadline. `purpose` is what others are told.
    pub fn lock(&self, kind: &str, purpose: &str, deadline: Deadline) -> Result<Lock> {
        loop {
            if let Some(lock) = self.try_lock(kind, purpose)? {
                return Ok(lock);
            }
            if !deadline.sleep(TRY_AGAIN) {
                let holder = self.holder(kind)?.map_or("another process".to_owned(), |holder| holder.to_string());
                bail!(
                    "{holder} holds the lock {} for longer than {:.1} s; wait for it or end it",
                    self.path(kind).display(),
                    deadline.budget().as_secs_f32()
                );
            }
        }
    }

    /// Takes the lock if nobody has it.
    pub fn try_lock(&self, kind: &str, purpose: &str) -> Result<Option<Lock>> {
        self.make_directory()?;
        let path = self.path(kind);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let opened = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(&path);
        let file = opened.with_context(|| format!("cannot open the lock file {}", path.display()))?;
        is_ours(&file, &path)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
        };
        lock.set_len(0)?;
        write!(lock, "{} {purpose}", std::process::id())?;
        Ok(Some(Lock { _file: lock }))
    }

    /// Who holds the lock, if somebody does.
    pub fn holder(&self, kind: &str) -> Result<Option<Holder>> {
        let Some(text) = self.read(kind)? else { return Ok(None) };
        let Some((pid, purpose)) = text.split_once(' ') else { return Ok(None) };
        let Ok(pid) = pid.parse::<i32>() else { return Ok(None) };
        Ok(Some(Holder { pid, purpose: purpose.to_owned() }))
    }

    /// Takes the lock from whoever holds it: after `patience` the holder is killed, if it is this very program. For stop,
    /// which must not fail, and not wait for ever, because somebody by hand left another action suspended.
    pub fn seize(&self, kind: &str, purpose: &str, patience: Duration, deadline: Deadline) -> Result<Lock> {
        if let Ok(lock) = self.lock(kind, purpose, deadline.at_most(patience)) {
            return Ok(lock);
        }
        if let Some(holder) = self.holder(kind)?
            && holder.runs_this_program()
        {
            // ESRCH: it has ended meanwhile.
            let _ = kill(Pid::from_raw(holder.pid), Signal::SIGKILL);
        }
        self.lock(kind, purpose, deadline)
    }
}

/// A held lock; given back when dropped, by the kernel even after SIGKILL.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pid: i32,
    purpose: String,
}

impl Holder {
    /// A process id is used again by others; its executable tells whether it is still this agent. The kernel adds
    /// ` (deleted)` when the agent was upgraded under it.
    fn runs_this_program(&self) -> bool {
        let name = |path: PathBuf| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
        let theirs = fs::read_link(format!("/proc/{}/exe", self.pid)).map(name);
        let ours = fs::read_link("/proc/self/exe").map(name);
        self.pid > 1 && theirs.is_ok() && theirs.ok() == ours.ok()
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.purpose)
    }
}

/// The directory may be one that others can write to: a file that is not a plain one of our own is not believed. Gives back
/// how long it is.
fn is_ours(file: &File, path: &Path) -> Result<u64> {
    let facts = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    if !facts.is_file() || facts.uid() != geteuid().as_raw() {
        bail!(
            "{} is not a plain file of user {} but of user {}; find out who put it there and remove it",
            path.display(),
            geteuid(),
            facts.uid()
        );
    }
    Ok(facts.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn store(name: &str) -> Store {
        let directory = std::env::temp_dir().join(format!("ocf-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        Store::new(directory, "sample", "ips:0")
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(50))
    }

    #[test]
    fn what_is_written_is_read_by_nobody_else_and_can_be_removed() {
        let store = store("round");
        assert_eq!(store.read("state").unwrap(), None);
        store.write("state", "promoted\n").unwrap();
        store.write("state", "unpromoted\n").unwrap();
        assert_eq!(store.read("state").unwrap().as_deref(), Some("unpromoted\n"));
        let mode = fs::metadata(store.path("state")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 1, "a temporary file is left");
        store.remove("state").unwrap();
        store.remove("state").unwrap();
        assert_eq!(store.read("state").unwrap(), None);
    }

    #[test]
    fn names_that_lead_elsewhere_stay_in_the_directory() {
        let store = Store::new("/run/x".into(), "sample", "../../etc/passwd\n");
        assert_eq!(store.path("state"), Path::new("/run/x/sample-.._2f.._2fetc_2fpasswd_0a.state"));
    }

    #[test]
    fn a_link_is_not_followed_neither_reading_nor_writing() {
        let store = store("link");
        store.make_directory().unwrap();
        let target = store.directory.join("target");
        fs::write(&target, "precious").unwrap();
        symlink(&target, store.path("state")).unwrap();
        symlink(&target, store.path("lock")).unwrap();
        assert!(store.read("state").is_err());
        assert!(store.try_lock("lock", "x").is_err());
        store.write("state", "new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(store.read("state").unwrap().as_deref(), Some("new"));
    }

    #[test]
    fn a_fifo_in_the_place_of_the_state_is_refused_and_hangs_nobody() {
        let store = store("fifo");
        store.make_directory().unwrap();
        nix::unistd::mkfifo(&store.path("state"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(format!("{:#}", store.read("state").unwrap_err()).contains("is not a plain file"));
    }

    #[test]
    fn a_second_one_waits_and_is_told_who_holds_the_lock() {
        let store = store("lock");
        let held = store.lock("lock", "promote", soon()).unwrap();
        assert!(store.try_lock("lock", "monitor").unwrap().is_none());
        let error = store.lock("lock", "stop", soon()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (promote) holds the lock", std::process::id())), "{error}");
        drop(held);
        store.lock("lock", "stop", soon()).unwrap();
    }

    #[test]
    fn only_this_program_is_ended_for_its_lock() {
        let store = store("seize");
        let _held = store.lock("lock", "promote", soon()).unwrap();
        fs::write(store.path("lock"), "1 init").unwrap();
        let begun = std::time::Instant::now();
        let error = store.seize("lock", "stop", Duration::from_millis(20), soon()).unwrap_err();
        assert!(error.to_string().contains("process 1 (init)"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
