//! What is kept beside the data directory of log that no other node has.
//!
//! That place is the server's user's, and the agent is root: it follows no link there, goes by directories that it holds
//! open, and takes only files that are the server's own.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, User, unlinkat};

use crate::installation::Installation;
use crate::position::Lsn;
use crate::rejoin::beside;

/// The directory for the log of one timeline from one place on.
pub(crate) struct Aside<'a> {
    user: &'a User,
    path: PathBuf,
    directory: File,
}

impl<'a> Aside<'a> {
    pub(crate) fn open(installed: &'a Installation, timeline: u32, left: Lsn) -> Result<Self> {
        let all = beside(&installed.data, "diverged");
        let name = format!("timeline-{timeline}-from-{}", left.to_string().replace('/', "-"));
        let path = all.join(&name);
        let open = || directory_in(&make_directory(installed, &all)?, OsStr::new(&name), &installed.user);
        let directory = open().with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { user: &installed.user, path, directory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies a file of the log here, and has it on the disk.
    pub(crate) fn keep(&self, from: &Path) -> Result<PathBuf> {
        let name = from.file_name().context("a file without a name")?;
        let to = self.path.join(name);
        self.copy(from, name).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        Ok(to)
    }

    fn copy(&self, from: &Path, name: &OsStr) -> Result<()> {
        let mut source = open_plain(from)?;
        let owner = source.metadata()?.uid();
        ensure!(owner == self.user.uid.as_raw(), "it belongs to user {owner}, and not to {}", self.user.name);
        // What an interrupted copy has left.
        match unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut copy = File::from(openat(&self.directory, name, new, Mode::S_IRUSR | Mode::S_IWUSR)?);
        io::copy(&mut source, &mut copy)?;
        give(&copy, self.user)?;
        Ok(copy.sync_all()?)
    }
}

/// Opens a file that is neither a link nor a device or a pipe.
pub(crate) fn open_plain(path: &Path) -> Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    ensure!(file.metadata()?.is_file(), "it is no plain file");
    Ok(file)
}

/// Makes a directory of the server's user, or takes the one that is there, and holds it open.
pub(crate) fn make_directory(installed: &Installation, path: &Path) -> Result<File> {
    let parent = path.parent().context("a directory in no directory")?;
    let parent = File::open(parent).with_context(|| format!("cannot open {}", parent.display()))?;
    directory_in(&parent, path.file_name().context("a directory without a name")?, &installed.user)
}

fn directory_in(parent: &File, name: &OsStr, user: &User) -> Result<File> {
    match mkdirat(parent.as_fd(), name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = File::from(openat(parent.as_fd(), name, flags, Mode::empty())?);
    match directory.metadata()?.uid() {
        // It was made now, or by an agent that was killed right then.
        0 => give(&directory, user)?,
        owner if owner == user.uid.as_raw() => {}
        owner => bail!("it is there, and belongs to user {owner} and not to {}", user.name),
    }
    Ok(directory)
}

fn give(file: &File, user: &User) -> Result<()> {
    fchown(file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .with_context(|| format!("cannot give it to {}", user.name))
}
