//! The boot guard: a `down` file in each service directory, so that no service starts by itself when svscan does, at boot
//! or after a file system was mounted. A person's own `down` files mean something else and are never touched.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag};
use ocf::Run;

use crate::parameters::Settings;
use crate::scan::{DownFile, Look, Scan};
use crate::supervise::Place;

/// The file's whole content: what a person who finds it reads, and how it is told from a file of others, which are empty
/// as a rule (svc's documentation says to `touch down`).
const TEXT: &str = "Boot guard of ocf:greenarrow:services: the cluster starts this service, nobody else does.\n\
    Written again while the resource has boot_guard=true; a stop with boot_guard=false takes it away.\n";

/// Which `down` file there is. The size tells: others write nothing into theirs, and none of just this size.
pub(crate) fn down_file(place: &Place) -> DownFile {
    match place.down() {
        Ok(facts) if is_file(&facts) && usize::try_from(facts.st_size) == Ok(TEXT.len()) => DownFile::Guard,
        Ok(_) => DownFile::Theirs,
        // What cannot be looked at keeps supervise from starting the service too (supervise.c: any error but ENOENT is
        // fatal there), and the look at the unit itself says what is wrong.
        Err(_) => DownFile::None,
    }
}

fn is_file(facts: &FileStat) -> bool {
    SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
}

/// Puts the guards where they are wanted, and takes them away where they are not.
pub(crate) fn settle(run: &Run, settings: &Settings) -> Result<()> {
    if settings.services_are_wrong {
        return Ok(());
    }
    let looks = Scan::take(settings).looks;
    let (count, done) = if settings.boot_guard { (establish(&looks)?, "put") } else { (remove(&looks)?, "removed") };
    if count > 0 {
        run.log.info(&format!("{count} boot guards were {done} (files called down in the service directories)"));
    }
    Ok(())
}

/// Puts the guard where there is no `down` file, and gives back how many were put.
pub(crate) fn establish(looks: &[Look]) -> Result<usize> {
    let bare = looks.iter().filter(|look| look.down_file == DownFile::None && look.unit.directory.is_dir());
    bare.map(|look| put(&look.unit.directory)).try_fold(0, |count, put| put.map(|put| count + usize::from(put)))
}

/// Takes the guards away, and gives back how many there were.
pub(crate) fn remove(looks: &[Look]) -> Result<usize> {
    let mut count = 0;
    for look in looks.iter().filter(|look| look.down_file == DownFile::Guard) {
        let path = look.unit.directory.join("down");
        // The size alone may not decide over somebody's file.
        if fs::read(&path).is_ok_and(|text| text == TEXT.as_bytes()) {
            fs::remove_file(&path).with_context(|| format!("cannot remove the boot guard {}", path.display()))?;
            count += 1;
        }
    }
    Ok(count)
}

/// Under another name first: half a guard would pass for a person's own `down` file, and the service would never be started
/// again. A link, other than a rename, never takes the place of a file that somebody has put there meanwhile.
fn put(directory: &Path) -> Result<bool> {
    let path = directory.join("down");
    let new = directory.join(format!(".down.{}", std::process::id()));
    let write = || {
        // A process of this number was killed half-way.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        options.open(&new)?.write_all(TEXT.as_bytes())?;
        match fs::hard_link(&new, &path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    };
    let written = write();
    // It is no longer needed in any case, and one that is left harms nobody.
    let _ = fs::remove_file(&new);
    written.with_context(|| format!("cannot write the boot guard {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Unit;

    fn directory(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("services-guard-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn look(directory: &Path) -> Look {
        let unit = Unit { name: "x".into(), directory: directory.to_owned(), log: false };
        Look { unit, supervised: false, status: None, down_file: down_file(&Place::at(directory)), fault: None }
    }

    #[test]
    fn a_guard_is_put_once_and_taken_away() {
        let directory = directory("once");
        assert_eq!(establish(&[look(&directory)]).unwrap(), 1);
        assert_eq!(down_file(&Place::at(&directory)), DownFile::Guard);
        assert_eq!(establish(&[look(&directory)]).unwrap(), 0);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "a temporary file is left");
        assert_eq!(remove(&[look(&directory)]).unwrap(), 1);
        assert_eq!(down_file(&Place::at(&directory)), DownFile::None);
    }

    #[test]
    fn a_file_of_others_is_left_alone() {
        let directory = directory("theirs");
        fs::write(directory.join("down"), "").unwrap();
        assert_eq!(down_file(&Place::at(&directory)), DownFile::Theirs);
        assert!(!put(&directory).unwrap());
        assert_eq!(remove(&[look(&directory)]).unwrap(), 0);
        // Of the guard's very size, but not the guard.
        fs::write(directory.join("down"), "x".repeat(TEXT.len())).unwrap();
        assert_eq!(remove(&[look(&directory)]).unwrap(), 0);
        assert_eq!(fs::read(directory.join("down")).unwrap().len(), TEXT.len());
    }

    #[test]
    fn a_directory_that_is_gone_is_passed_over() {
        assert_eq!(establish(&[look(Path::new("/no/such/service"))]).unwrap(), 0);
    }
}
