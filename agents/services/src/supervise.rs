//! What supervise(8) of daemontools 0.76 leaves on disk for others: whether it lives, what it says of its service, and
//! the fifo through which it is told what to do. Nothing is executed; svc(8) and svstat(8) do the same.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::read;

/// The length of `supervise/status` (supervise.c: `char status[18]`).
const LENGTH: usize = 18;
/// TAI64 labels of the second that began 1970 TAI, plus the ten seconds by which supervise's clock (`tai_now` of
/// daemontools: Unix time + 2^62 + 10) is ahead of Unix time.
const TAI_OF_UNIX_ZERO: u64 = (1 << 62) + 10;

const FOR_WRITING: OFlag = OFlag::O_WRONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const FOR_READING: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// When the present process was started, or the last one ended, by supervise's clock: seconds and nanoseconds of Unix
/// time. Two runs of a service differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Since {
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u32,
}

impl Since {
    /// How long ago that was; zero for what lies in the future by a clock that was set back.
    pub(crate) fn elapsed(self) -> Duration {
        let moment = UNIX_EPOCH.checked_add(Duration::new(self.seconds, self.nanoseconds));
        moment.and_then(|moment| SystemTime::now().duration_since(moment).ok()).unwrap_or_default()
    }
}

/// What supervise wants of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Started again whenever it ends.
    Up,
    /// Not started.
    Down,
    /// Not started again when it ends (`svc -o`).
    Once,
}

/// What supervise says of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) since: Since,
    /// The process of ./run; None when the service is down.
    pub(crate) pid: Option<i32>,
    /// Stopped by `svc -p`.
    pub(crate) paused: bool,
    pub(crate) want: Want,
}

impl Status {
    /// Reads the 18 bytes: 8 of TAI seconds and 4 of nanoseconds, big-endian; 4 of process id, little-endian, 0 for none;
    /// paused; `u`, `d` or 0 (supervise.c: `pidchange`, `announce`).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Ok(bytes) = <&[u8; LENGTH]>::try_from(bytes) else {
            return Err(format!("has {} bytes, {LENGTH} are expected", bytes.len()));
        };
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, p0, p1, p2, p3, paused, want] = *bytes;
        let label = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let pid = i32::from_le_bytes([p0, p1, p2, p3]);
        if pid < 0 {
            return Err(format!("names process {pid}"));
        }
        Ok(Self {
            since: Since {
                seconds: label.saturating_sub(TAI_OF_UNIX_ZERO),
                // The field may hold any number; a second has no more than these.
                nanoseconds: u32::from_be_bytes([n0, n1, n2, n3]).min(999_999_999),
            },
            pid: Some(pid).filter(|pid| *pid > 0),
            paused: paused != 0,
            want: match want {
                b'u' => Want::Up,
                b'd' => Want::Down,
                0 => Want::Once,
                other => return Err(format!("wants {:?}, where u, d or a zero byte is expected", char::from(other))),
            },
        })
    }

    /// What the supervise of this service directory wrote last; None when none ever did.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, String> {
        Place::at(directory).status()
    }
}

/// Whether a supervise runs for a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Liveness {
    Alive,
    /// One ran here once.
    Dead,
    /// None has ever run here, as far as can be seen.
    Never,
    Unknown(String),
}

/// Whether a supervise runs for this directory.
pub(crate) fn liveness(directory: &Path) -> Liveness {
    Place::at(directory).liveness()
}

/// Tells the supervise of this directory to carry out these letters of svc(8), in their order. False when there is none.
pub(crate) fn tell(directory: &Path, letters: &str) -> Result<bool, String> {
    let path = directory.join("supervise/control");
    let told = openat(AT_FDCWD, &path, FOR_WRITING, Mode::empty()).map_err(std::io::Error::from);
    match told.and_then(|fifo| File::from(fifo).write_all(letters.as_bytes())) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENXIO | Errno::ENOENT | Errno::EPIPE) => Ok(false),
            _ => Err(format!("cannot write {letters:?} into {}: {error}", path.display())),
        },
    }
}

/// The names of what is looked at, from a service directory or, for its log, from the same one.
struct Names {
    ok: &'static CStr,
    status: &'static CStr,
    down: &'static CStr,
}

const OF_SERVICE: Names = Names { ok: c"supervise/ok", status: c"supervise/status", down: c"down" };
const OF_LOG: Names = Names { ok: c"log/supervise/ok", status: c"log/supervise/status", down: c"log/down" };

/// A service directory that is held open. A monitor looks at six files in each, and goes the way to it, through a symbolic
/// link as a rule, only once.
pub(crate) struct Opened(OwnedFd);

impl Opened {
    pub(crate) fn new(directory: &Path) -> Option<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(directory, flags, Mode::empty()).ok().map(Self)
    }
}

/// Where a supervise keeps its files: a directory by its name, or one that is open.
pub(crate) struct Place<'a> {
    directory: &'a Path,
    opened: Option<(BorrowedFd<'a>, &'static Names)>,
}

impl<'a> Place<'a> {
    pub(crate) fn at(directory: &'a Path) -> Self {
        Self { directory, opened: None }
    }

    /// A service that is open, or its log.
    pub(crate) fn of(directory: &'a Path, service: &'a Opened, log: bool) -> Self {
        Self { directory, opened: Some((service.0.as_fd(), if log { &OF_LOG } else { &OF_SERVICE })) }
    }

    /// A supervise holds the reading end of `supervise/ok` for as long as it lives: without a reader a fifo cannot be
    /// opened for writing without waiting (fifo(7): ENXIO). That is what svok(8) does.
    pub(crate) fn liveness(&self) -> Liveness {
        match self.open(|names| names.ok, "supervise/ok", FOR_WRITING) {
            Ok(_) => Liveness::Alive,
            Err(Errno::ENXIO) => Liveness::Dead,
            Err(Errno::ENOENT) => Liveness::Never,
            Err(error) => {
                let path = self.directory.join("supervise/ok");
                Liveness::Unknown(format!("cannot open {}: {}", path.display(), std::io::Error::from(error)))
            }
        }
    }

    /// What its supervise wrote last; None when none ever did.
    pub(crate) fn status(&self) -> Result<Option<Status>, String> {
        let path = || self.directory.join("supervise/status");
        let named = |error: Errno| format!("cannot read {}: {}", path().display(), std::io::Error::from(error));
        let file = match self.open(|names| names.status, "supervise/status", FOR_READING) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened.map_err(named)?,
        };
        // One byte more than there should be shows a file that is too long.
        let mut bytes = [0; LENGTH + 1];
        let count = read(&file, &mut bytes).map_err(named)?;
        Status::parse(&bytes[..count]).map(Some).map_err(|wrong| format!("{} {wrong}", path().display()))
    }

    /// The file `down` itself, be it a symbolic link.
    pub(crate) fn down(&self) -> Result<FileStat, Errno> {
        match self.opened {
            Some((at, names)) => fstatat(at, names.down, AtFlags::AT_SYMLINK_NOFOLLOW),
            None => fstatat(AT_FDCWD, &self.directory.join("down"), AtFlags::AT_SYMLINK_NOFOLLOW),
        }
    }

    fn open(&self, name: fn(&Names) -> &'static CStr, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        match self.opened {
            Some((at, names)) => openat(at, name(names), flags, Mode::empty()),
            None => openat(AT_FDCWD, &self.directory.join(path), flags, Mode::empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A real one, of a service that was up.
    const UP: [u8; LENGTH] = [0x40, 0, 0, 0, 0x6b, 0x03, 0x2a, 0x34, 0x21, 0x26, 0xe2, 0x94, 0x61, 0x51, 0, 0, 0, 0x75];

    #[test]
    fn a_status_of_daemontools_is_read() {
        let status = Status::parse(&UP).unwrap();
        assert_eq!(status.pid, Some(20833));
        assert_eq!(status.since, Since { seconds: 0x6b03_2a34 - 10, nanoseconds: 0x2126_e294 });
        assert_eq!((status.paused, status.want), (false, Want::Up));
    }

    #[test]
    fn down_paused_and_once_are_told_apart() {
        let with = |changes: &[(usize, u8)]| {
            let mut bytes = UP;
            for (place, byte) in changes {
                bytes[*place] = *byte;
            }
            Status::parse(&bytes).unwrap()
        };
        assert_eq!(with(&[(12, 0), (13, 0), (17, b'd')]).pid, None);
        assert_eq!(with(&[(17, b'd')]).want, Want::Down);
        assert_eq!(with(&[(17, 0)]).want, Want::Once);
        assert!(with(&[(16, 1)]).paused);
    }

    #[test]
    fn what_is_no_status_is_named() {
        assert_eq!(Status::parse(b"").unwrap_err(), "has 0 bytes, 18 are expected");
        assert_eq!(Status::parse(&[0; 19]).unwrap_err(), "has 19 bytes, 18 are expected");
        let mut bytes = UP;
        bytes[17] = b'x';
        assert!(Status::parse(&bytes).unwrap_err().contains("wants 'x'"));
        bytes[15] = 0x80;
        assert!(Status::parse(&bytes).unwrap_err().contains("names process -"));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_uptime() {
        let future = Since { seconds: u64::MAX / 2, nanoseconds: 0 };
        assert_eq!(future.elapsed(), Duration::ZERO);
        assert!(Since { seconds: 0, nanoseconds: 0 }.elapsed() > Duration::from_secs(1_000_000));
    }
}
