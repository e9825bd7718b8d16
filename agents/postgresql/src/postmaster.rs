//! The server's processes, as the data directory and /proc show them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ocf::{Deadline, Run};

/// A process with much memory takes seconds to give it back.
const DETACHES: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The file that a running server keeps in its data directory.
const PID_FILE: &str = "postmaster.pid";

/// Lines of postmaster.pid (miscadmin.h, "LOCK_FILE_LINE"), from the first on: pid, data directory, start time, port,
/// socket directory, listen address, shared memory key and id, and from version 10 on the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) pid: i32,
    pub(crate) port: Option<u16>,
    pub(crate) socket_directory: Option<PathBuf>,
    pub(crate) shared_memory: Option<u64>,
    pub(crate) stopping: bool,
}

impl PidFile {
    fn read(data: &Path) -> Result<Option<Self>> {
        let path = data.join(PID_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// None for a file that is being written, or is not one of PostgreSQL's.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let line = |number: usize| lines.get(number - 1).copied().filter(|line| !line.is_empty());
        // A server in single-user mode has a negative one.
        let pid = line(1)?.parse::<i32>().ok()?.checked_abs().filter(|pid| *pid > 1)?;
        Some(Self {
            pid,
            port: line(4).and_then(|port| port.parse().ok()),
            socket_directory: line(5).map(PathBuf::from),
            shared_memory: line(7).and_then(|line| line.split_whitespace().nth(1)?.parse().ok()),
            stopping: line(8) == Some("stopping"),
        })
    }
}

/// The processes of one data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Processes {
    /// None at all.
    None,
    /// A postmaster.
    Postmaster(PidFile),
    /// Processes of a server whose postmaster is gone, or whose pid file is.
    Stray(Vec<i32>),
}

impl Processes {
    /// Looks. `data` is the data directory without symbolic links.
    pub(crate) fn of(data: &Path) -> Result<Self> {
        let file = PidFile::read(data)?;
        if let Some(file) = file
            && stands_in(file.pid, data)
        {
            return Ok(Self::Postmaster(file));
        }
        let stray = all_in(data)?;
        Ok(if stray.is_empty() { Self::None } else { Self::Stray(stray) })
    }
}

/// Every process of a server that runs in the directory: its postmaster and the children have it as working directory
/// (ChangeToDataDir, postmaster.c).
pub(crate) fn all_in(data: &Path) -> Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("cannot list the processes")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| stands_in(*pid, data)).collect())
}

/// Whether the process is a server's and stands in the directory. A process id alone says nothing: it may have been given
/// to another since.
fn stands_in(pid: i32, data: &Path) -> bool {
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
    let program = link("exe").map(|path| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
    let server = program.is_some_and(|path| path.ends_with("/postgres") || path.ends_with("/postmaster"));
    server
        && link("cwd").is_some_and(|cwd| cwd.to_string_lossy().trim_end_matches(" (deleted)") == data.to_string_lossy())
}

/// A server's process id and start time (field 22 of proc_pid_stat(5)), which no other process of this boot has.
pub(crate) fn identity(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(format!("{pid} {}", stat.rsplit_once(") ")?.1.split(' ').nth(19)?))
}

/// Where the server of this identity stands, if it lives.
pub(crate) fn place_of(server: &str) -> Option<PathBuf> {
    let pid = server.split(' ').next()?.parse().ok()?;
    let place = (identity(pid)? == server).then(|| fs::read_link(format!("/proc/{pid}/cwd")).ok()).flatten()?;
    let place = PathBuf::from(place.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
    stands_in(pid, &place).then_some(place)
}

/// The letter of the state in proc_pid_stat(5): T for one that was stopped, D for one that waits for a disk.
pub(crate) fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Sends a signal; false when the process is gone. One that stands still is told to go on, or it would never get there.
pub(crate) fn signal(pid: i32, signal: Signal) -> Result<bool> {
    let sent = match kill(Pid::from_raw(pid), signal) {
        Ok(()) => true,
        Err(Errno::ESRCH) => false,
        Err(error) => return Err(anyhow!("cannot send {signal} to process {pid}: {error}")),
    };
    if sent && matches!(state_of(pid), Some('T' | 't')) {
        // ESRCH: it has ended meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
    }
    Ok(sent)
}

/// How many processes stay attached to the shared memory segment, by proc_sysvipc_shm(5); 0 when there is none. One that is
/// killed shows neither program nor directory any more while it still gives its memory back (exit_mm, exit.c): it is waited
/// for.
pub(crate) fn still_attached(segment: u64, deadline: Deadline) -> Result<u32> {
    let deadline = deadline.at_most(DETACHES);
    loop {
        let table = fs::read_to_string("/proc/sysvipc/shm").context("cannot read /proc/sysvipc/shm")?;
        let count = attached_in(&table, segment);
        if count == 0 || !deadline.sleep(LOOK_AGAIN) {
            return Ok(count);
        }
    }
}

/// `key shmid perms size cpid lpid nattch …`
fn attached_in(table: &str, segment: u64) -> u32 {
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = line.filter(|words| words.get(1).and_then(|id| id.parse().ok()) == Some(segment));
    ours.next().and_then(|words| words.get(6)?.parse().ok()).unwrap_or(0)
}

/// Takes away the pid file and the socket of a server that is proved to be gone. Its next start would do so itself, unless
/// another process of its user has got its process id meanwhile (CreateLockFile, miscinit.c). `directory` and `port` are
/// those of the socket where the pid file does not tell.
pub(crate) fn clear_leftovers(run: &Run, data: &Path, directory: &Path, port: u16) -> Result<()> {
    let file = PidFile::read(data).ok().flatten().unwrap_or_default();
    let directory = file.socket_directory.as_deref().unwrap_or(directory);
    let socket = data.join(directory).join(format!(".s.PGSQL.{}", file.port.unwrap_or(port)));
    let lock = PathBuf::from(format!("{}.lock", socket.display()));
    // Of the same form as the pid file: the second line says of which server it is.
    let ours = |text: String| {
        text.lines().nth(1).is_some_and(|place| fs::canonicalize(place).is_ok_and(|place| place == data))
    };
    let mut paths = vec![data.join(PID_FILE)];
    if fs::read_to_string(&lock).is_ok_and(ours) {
        paths.extend([socket, lock]);
    }
    for path in paths {
        match fs::remove_file(&path) {
            Ok(()) => run.log.info(&format!("{}, of a server that is gone, was removed", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
    Ok(())
}

/// The shared memory segment that the pid file names, if it names one.
pub(crate) fn segment(data: &Path) -> Option<u64> {
    PidFile::read(data).ok().flatten()?.shared_memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_pid_file() {
        let text = "4711\n/var/lib/pg/data\n1764000000\n5433\n/tmp\n*\n  1234567       42\nstandby \n";
        let file = PidFile::parse(text).unwrap();
        assert_eq!((file.pid, file.port, file.shared_memory, file.stopping), (4711, Some(5433), Some(42), false));
        assert_eq!(file.socket_directory.as_deref(), Some(Path::new("/tmp")));
        assert!(PidFile::parse(&text.replace("standby ", "stopping")).unwrap().stopping);
        // As it is while the server has only begun.
        let young = PidFile::parse("4711\n/var/lib/pg/data\n1764000000\n5433\n\n").unwrap();
        assert_eq!((young.socket_directory, young.shared_memory), (None, None));
        assert_eq!(PidFile::parse("-4711\n/x\n").unwrap().pid, 4711);
        for text in ["", "\n", "0\n", "1\n/x\n", "x\n", "99999999999\n"] {
            assert_eq!(PidFile::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_process_that_is_no_server_does_not_count() {
        let here = fs::canonicalize(std::env::current_dir().unwrap()).unwrap();
        assert_eq!(all_in(&here).unwrap(), Vec::<i32>::new());
        assert!(!stands_in(i32::try_from(std::process::id()).unwrap(), &here));
    }

    #[test]
    fn attached_processes_are_counted_by_segment() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid\n\
                     \x20  1234567         42   600                    56  4711  4712      7   101\n";
        assert_eq!((attached_in(table, 42), attached_in(table, 7)), (7, 0));
    }
}
