//! A directory for a while, of which a command that was killed leaves nothing to the next one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{geteuid, mkdtemp};

/// Names begin so; what comes after it is mkdtemp's.
const PREFIX: &str = "hvmail_ha.";

/// Removed with everything in it, however the command ends by itself. What one that was killed has left is known by its lock,
/// which nobody holds any more.
pub(super) struct Scratch {
    pub(super) path: PathBuf,
    _lock: Flock<File>,
}

impl Scratch {
    /// Removes what is left of others, and makes one.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        for path in fs::read_dir(parent)?.flatten().map(|entry| entry.path()) {
            if let Some(_left) = left(&path) {
                // What a killed command's tar still writes to goes at the next time.
                let _gone = fs::remove_dir_all(&path);
            }
        }
        loop {
            let path = mkdtemp(&parent.join(format!("{PREFIX}XXXXXX")))?;
            // A command that tidies up may have had it before this one has its lock.
            let lock = open(&path).and_then(|file| locked(file, FlockArg::LockExclusive));
            match lock {
                Ok(lock) if path.exists() => return Ok(Self { path, _lock: lock }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody can be told here; what is left is readable by root only, and without secrets.
        let _left = fs::remove_dir_all(&self.path);
    }
}

/// The lock of a directory that a command of this user has left.
fn left(path: &Path) -> Option<Flock<File>> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let file = open(path).ok()?;
    let own = file.metadata().is_ok_and(|facts| facts.uid() == geteuid().as_raw());
    own.then(|| locked(file, FlockArg::LockExclusiveNonblock).ok()).flatten()
}

/// Not behind a link: anybody may make one in the directory for temporary files.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits()).open(path)
}

fn locked(file: File, how: FlockArg) -> io::Result<Flock<File>> {
    Flock::lock(file, how).map_err(|(_, error): (File, Errno)| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_killed_command_has_left_goes_and_nothing_else() {
        let place = mkdtemp(&std::env::temp_dir().join("bundle-scratch.XXXXXX")).unwrap();
        let killed = mkdtemp(&place.join("hvmail_ha.XXXXXX")).unwrap();
        fs::write(killed.join("piece"), "x").unwrap();
        for other in ["somebodys", "hvmail_ha"] {
            fs::create_dir(place.join(other)).unwrap();
        }
        symlink(place.join("somebodys"), place.join("hvmail_ha.linked")).unwrap();
        let first = Scratch::new(&place).unwrap();
        assert!(!killed.exists() && first.path.is_dir());
        let second = Scratch::new(&place).unwrap();
        assert!(first.path.is_dir() && second.path.is_dir(), "one that is in use was taken away");
        let names = || fs::read_dir(&place).unwrap().count();
        assert_eq!(names(), 5);
        drop((first, second));
        assert_eq!(names(), 3);
        fs::remove_dir_all(&place).unwrap();
    }
}
