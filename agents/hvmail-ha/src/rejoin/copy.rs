//! A copy of the devices whose changes are thrown away: the disks below them, for DRBD lets nobody read a Secondary.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::sys::statvfs::statvfs;

use crate::new_file::NewFile;

/// Read at once; of a piece without a byte in it nothing is written.
const PIECE: usize = 1 << 20;
/// No disk wants its direct reads aligned to more.
const ALIGNMENT: usize = 4096;

/// Copies all of them, or none: to `to`, or to `to-0`, `to-1` … where there are several.
pub(super) fn copy(disks: &[PathBuf], to: &Path) -> Result<Vec<PathBuf>> {
    ensure!(!disks.is_empty(), "drbdadm names no disk");
    let target = |number: usize| {
        let mut name: OsString = to.into();
        if disks.len() > 1 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    if let Some(there) = (0..disks.len()).map(target).find(|path| fs::symlink_metadata(path).is_ok()) {
        bail!(
            "{} is there already, from an earlier try perhaps: name another file, or say --without-copy if it is the copy",
            there.display()
        );
    }
    let sizes = disks.iter().map(|disk| size(disk)).collect::<Result<Vec<_>>>()?;
    check_room(to, sizes.iter().sum())?;
    let mut made = Vec::new();
    for (number, (disk, size)) in disks.iter().zip(&sizes).enumerate() {
        let target = target(number);
        if let Err(error) = one(disk, *size, &target) {
            for path in &made {
                let _ = fs::remove_file(path);
            }
            return Err(error).with_context(|| format!("{} was not copied to {}", disk.display(), target.display()));
        }
        made.push(target);
    }
    Ok(made)
}

fn size(disk: &Path) -> Result<u64> {
    let opened = File::open(disk).and_then(|mut file| file.seek(SeekFrom::End(0)));
    opened.with_context(|| format!("cannot read {}", disk.display()))
}

fn check_room(to: &Path, needed: u64) -> Result<()> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let there = statvfs(parent).with_context(|| format!("{} is no directory to write to", parent.display()))?;
    let free = there.blocks_available() * there.fragment_size();
    if free < needed {
        bail!(
            "{} has {free} bytes free, and {needed} are needed: take another place, or say --without-copy",
            parent.display()
        );
    }
    Ok(())
}

fn one(disk: &Path, size: u64, target: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.read(true);
    // DRBD writes past the page cache of the disk below it, where blocks may be as they once were.
    if fs::metadata(disk)?.file_type().is_block_device() {
        options.custom_flags(OFlag::O_DIRECT.bits());
    }
    let mut source = options.open(disk)?;
    // A file that is there already is somebody's.
    let mut made = NewFile::create(target)?;
    write(&mut source, &mut made.file, size)?;
    Ok(made.keep()?)
}

fn write(source: &mut File, file: &mut File, size: u64) -> Result<()> {
    let mut room = vec![0; PIECE + ALIGNMENT];
    let start = room.as_ptr().align_offset(ALIGNMENT);
    let piece = &mut room[start..start + PIECE];
    let mut at = 0;
    while at < size {
        let read = source.read(piece)?;
        ensure!(read > 0, "it ended at byte {at} of {size}");
        if piece[..read].iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&piece[..read])?;
        }
        at += read as u64;
    }
    Ok(file.set_len(size)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hvmail-copy-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_copy_is_the_same_and_takes_nobodys_place() {
        let place = Place::new("same");
        let mut content = vec![0; 3 * PIECE + 17];
        (content[5], content[2 * PIECE + 1]) = (1, 2);
        let disks = [place.0.join("a"), place.0.join("b")];
        for disk in &disks {
            fs::write(disk, &content).unwrap();
        }
        let made = copy(&disks, &place.0.join("copy")).unwrap();
        assert_eq!(made, [place.0.join("copy-0"), place.0.join("copy-1")]);
        assert!(made.iter().all(|path| fs::read(path).unwrap() == content));
        // The second is in the way.
        fs::remove_file(&made[0]).unwrap();
        let error = copy(&disks, &place.0.join("copy")).unwrap_err().to_string();
        assert!(error.contains("copy-1 is there already"), "{error}");
        assert!(!made[0].exists() && fs::read(&made[1]).unwrap() == content);
        assert_eq!(copy(&disks[..1], &place.0.join("single")).unwrap(), [place.0.join("single")]);
    }

    #[test]
    fn room_is_asked_for_before_anything_is_written() {
        let place = Place::new("room");
        let error = check_room(&place.0.join("copy"), 1 << 60).unwrap_err();
        assert!(error.to_string().contains("--without-copy"), "{error:#}");
    }
}
