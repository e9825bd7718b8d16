//! What supervise(8) of daemontools 0.76 leaves on disk for others: whether it lives, what it says of its service, and
//! the fifo through which it is told what to do. Nothing is executed; svc(8) and svstat(8) do the same.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// The length of `supervise/status` (supervise.c: `char status[18]`).
const LENGTH: usize = 18;
/// TAI64 labels of the second that began 1970 TAI, plus the ten seconds by which supervise's clock (`tai_now` of
/// daemontools: Unix time + 2^62 + 10) is ahead of Unix time.
const TAI_OF_UNIX_ZERO: u64 = (1 << 62) + 10;

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
        let path = directory.join("supervise/status");
        let mut options = OpenOptions::new();
        let opened = options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(&path);
        let named = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let mut file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(named)?,
        };
        // One byte more than there should be shows a file that is too long.
        let mut bytes = [0; LENGTH + 1];
        let count = file.read(&mut bytes).map_err(named)?;
        Self::parse(&bytes[..count]).map(Some).map_err(|wrong| format!("{} {wrong}", path.display()))
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

/// A supervise holds the reading end of `supervise/ok` for as long as it lives: without a reader a fifo cannot be opened
/// for writing without waiting (fifo(7): ENXIO). That is what svok(8) does.
pub(crate) fn liveness(directory: &Path) -> Liveness {
    let path = directory.join("supervise/ok");
    match for_writing(&path) {
        Ok(_) => Liveness::Alive,
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENXIO) => Liveness::Dead,
            Some(Errno::ENOENT) => Liveness::Never,
            _ => Liveness::Unknown(format!("cannot open {}: {error}", path.display())),
        },
    }
}

/// Tells the supervise of this directory to carry out these letters of svc(8), in their order. False when there is none.
pub(crate) fn tell(directory: &Path, letters: &str) -> Result<bool, String> {
    let path = directory.join("supervise/control");
    let told = for_writing(&path).and_then(|mut fifo| fifo.write_all(letters.as_bytes()));
    match told {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENXIO | Errno::ENOENT | Errno::EPIPE) => Ok(false),
            _ => Err(format!("cannot write {letters:?} into {}: {error}", path.display())),
        },
    }
}

fn for_writing(path: &Path) -> io::Result<fs::File> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    OpenOptions::new().write(true).custom_flags(flags).open(path)
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
