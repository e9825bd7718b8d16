//! A file that has its name only once it is whole: a command that is killed leaves nothing that is in the way of the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

/// Only root reads it; and it is nobody else's file, nor behind a link.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) file: File,
    path: PathBuf,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It goes with its descriptor (open(2), `O_TMPFILE`).
    Nameless,
    /// Its file system has no such files, as NFS and vfat have none: it is called PATH.part.
    Part,
    Kept,
}

impl NewFile {
    /// For a path where nothing is.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(Error::from(ErrorKind::AlreadyExists));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match options().custom_flags(OFlag::O_TMPFILE.bits()).open(parent) {
            Ok(file) => Ok(Self { file, path: path.to_owned(), state: State::Nameless }),
            Err(_) => Self::part(path),
        }
    }

    fn part(path: &Path) -> Result<Self> {
        let part = part_of(path);
        let file = options().create_new(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&part).map_err(|error| {
            let left =
                "is there: a command that was killed has left it, or one is at work; remove it, or name another file";
            match error.kind() {
                ErrorKind::AlreadyExists => Error::other(format!("{} {left}", part.display())),
                _ => error,
            }
        })?;
        Ok(Self { file, path: path.to_owned(), state: State::Part })
    }

    /// Gives it its name; what has got that name meanwhile is not overwritten.
    pub(crate) fn keep(mut self) -> Result<()> {
        self.file.sync_all()?;
        match self.state {
            State::Nameless => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(AT_FDCWD, own.as_str(), AT_FDCWD, &self.path, AtFlags::AT_SYMLINK_FOLLOW)?;
            }
            // vfat has no links, and NFS no rename that replaces nothing.
            State::Part if fs::symlink_metadata(&self.path).is_ok() => return Err(ErrorKind::AlreadyExists.into()),
            State::Part => fs::rename(part_of(&self.path), &self.path)?,
            State::Kept => {}
        }
        self.state = State::Kept;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.state == State::Part {
            // It is this command's own, made a moment ago; half of it helps nobody.
            let _gone = fs::remove_file(part_of(&self.path));
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_there_once_it_is_whole_and_takes_nobodys_place() {
        let place = std::env::temp_dir().join(format!("new-file-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let path = place.join("file");
        let entries = || fs::read_dir(&place).unwrap().count();
        let mut given_up = NewFile::create(&path).unwrap();
        given_up.file.write_all(b"half").unwrap();
        // As a kill would leave it.
        assert_eq!((entries(), &given_up.state), (0, &State::Nameless), "{}", place.display());
        drop(given_up);
        let mut kept = NewFile::create(&path).unwrap();
        let late = NewFile::create(&path).unwrap();
        kept.file.write_all(b"whole").unwrap();
        kept.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(late.keep().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(NewFile::create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&path).unwrap().as_slice(), entries()), (&b"whole"[..], 1));
        fs::remove_dir_all(&place).unwrap();
    }

    /// Where files without a name are not to be had.
    #[test]
    fn half_of_it_never_has_its_name() {
        let place = std::env::temp_dir().join(format!("new-file-part-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let [path, part] = ["file", "file.part"].map(|name| place.join(name));
        let mut made = NewFile::part(&path).unwrap();
        made.file.write_all(b"half").unwrap();
        assert!(part.exists() && !path.exists());
        let another = NewFile::part(&path).unwrap_err().to_string();
        assert!(another.contains("file.part is there: a command that was killed has left it"), "{another}");
        drop(made);
        assert!(!part.exists());
        NewFile::part(&path).unwrap().keep().unwrap();
        assert!(path.exists() && !part.exists());
        // It has got the name meanwhile.
        assert_eq!(NewFile::part(&path).unwrap().keep().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(path.exists() && !part.exists());
        fs::remove_dir_all(&place).unwrap();
    }
}
