//! A data directory that nothing else mends, replaced by a new base backup of the primary: the old one stays beside it until
//! the new one streams.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use ocf::{Done, Failure, Kind, Run};

use crate::aside;
use crate::configuration;
use crate::installation::Installation;
use crate::judgement::Seen;
use crate::parameters::Settings;
use crate::rejoin::{beside, forget_marker, own_files, progress};
use crate::server::Said;
use crate::survey::Survey;

/// A file in a directory that this agent has put aside: no other is ever removed.
const MARK: &str = "ocf-put-aside";
/// The backup while it is taken.
const NEW: &str = "ocf-new";
/// The directory that it has replaced.
const OLD: &str = "old";
/// The same while it is removed.
const GOING: &str = "ocf-removing";

/// Takes the backup, and only when it is whole puts it in the place of the data directory. The caller starts the server.
pub(crate) fn replace(run: &Run, installed: &Installation, source: &str) -> Result<(), Failure> {
    check_replaceable(installed)?;
    let (data, new, old) = (&installed.data, beside(&installed.data, NEW), beside(&installed.data, OLD));
    remove(&new)?;
    aside::make_directory(installed, &new).with_context(|| format!("cannot make {}", new.display()))?;
    run.log.warning(&format!("a base backup of the primary is taken to {}", new.display()));
    let place = new.to_string_lossy().into_owned();
    let words = ["-D", place.as_str(), "-d", source, "-X", "stream", "-c", "fast", "-P", "-w"];
    let output =
        installed.program("pg_basebackup").args(words).run_telling(run.deadline, &mut progress(run, "pg_basebackup"));
    output.and_then(|output| output.success("pg_basebackup")).with_context(|| {
        format!("{} is as it was; a backup that needs more time needs a longer timeout of start", data.display())
    })?;
    for (path, content) in own_files(data) {
        configuration::place(installed, &new.join(path.file_name().unwrap_or_default()), &content)?;
    }
    // The primary may have one, of an exchange that came to nothing.
    forget(&new.join(MARK))?;
    remove(&old)?;
    exchange(installed, &new, &old)?;
    run.log.warning(&format!(
        "the old data directory is kept as {} until the server streams with the new one, and is removed then",
        old.display()
    ));
    Ok(())
}

/// Completes or undoes an exchange that was interrupted between its two renames, which left no data directory.
pub(crate) fn finish(run: &Run, settings: &Settings) -> Result<()> {
    let data = intended(&settings.datadir);
    let (new, old) = (beside(&data, NEW), beside(&data, OLD));
    if data.exists() {
        return forget(&data.join(MARK));
    }
    if !old.join(MARK).exists() {
        return Ok(());
    }
    // The first rename is made only when the backup is whole and on the disk.
    let completed = new.exists();
    let from = if completed { &new } else { &old };
    fs::rename(from, &data).with_context(|| format!("cannot rename {} to {}", from.display(), data.display()))?;
    sync_parent(&data)?;
    if completed {
        forget_marker(&data)?;
        run.log.warning(&format!(
            "the exchange of {} for a base backup was interrupted half-way and is completed",
            data.display()
        ));
        return Ok(());
    }
    run.log.warning(&format!("{} was put aside for a base backup that is gone, and is put back", data.display()));
    forget(&data.join(MARK))
}

/// Where the data directory is to be, whether it is there or not.
fn intended(datadir: &Path) -> PathBuf {
    let place = fs::read_link(datadir).map(|target| datadir.parent().unwrap_or(datadir).join(target));
    let place = place.unwrap_or_else(|_| datadir.to_owned());
    let parent = place.parent().and_then(|parent| fs::canonicalize(parent).ok());
    parent.zip(place.file_name()).map_or_else(|| place.clone(), |(parent, name)| parent.join(name))
}

/// Whether something is kept beside the directory that a base backup has replaced.
pub(crate) fn keeps_something(data: &Path) -> bool {
    beside(data, OLD).join(MARK).exists() || beside(data, GOING).exists()
}

/// Removes what a base backup has replaced, once the server streams with that.
pub(crate) fn discard(run: &Run, settings: &Settings) -> Done {
    let survey = Survey::take(run, settings)?;
    let streams = matches!(&survey.seen, Seen::Answering(Said::Standby(standby)) if standby.streaming);
    if !streams || !keeps_something(&survey.data) {
        return Ok(());
    }
    let (old, going) = (beside(&survey.data, OLD), beside(&survey.data, GOING));
    if !going.exists() {
        fs::rename(&old, &going).with_context(|| format!("cannot rename {}", old.display()))?;
    }
    let directory = File::open(&going).with_context(|| format!("cannot open {}", going.display()))?;
    // Somebody is at it already where this fails: many files take their time.
    let Ok(_lock) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    fs::remove_dir_all(&going).with_context(|| format!("cannot remove {}", going.display()))?;
    run.log
        .info(&format!("the server streams with its base backup; {}, which that replaced, was removed", old.display()));
    Ok(())
}

/// Whether two renames are all that it takes.
fn check_replaceable(installed: &Installation) -> Result<(), Failure> {
    let data = &installed.data;
    let device = |path: &Path| fs::metadata(path).map(|facts| facts.dev()).with_context(|| path.display().to_string());
    let refused = |why: &str| {
        let reason = format!("{} cannot be replaced by a base backup: {why}; do it by hand", data.display());
        Err(Failure::new(Kind::Arguments, reason))
    };
    let old = beside(data, OLD);
    if old.exists() && !old.join(MARK).exists() {
        let reason = format!("{} is there and is not of this agent: move it away", old.display());
        return Err(Failure::new(Kind::Arguments, reason));
    }
    if device(data)? != device(data.parent().unwrap_or(data))? {
        return refused("it is a file system of its own");
    }
    let wal = crate::wal::directory(data)?;
    if fs::symlink_metadata(&wal).is_ok_and(|facts| facts.is_symlink()) || device(&wal)? != device(data)? {
        return refused("its log is elsewhere");
    }
    if fs::read_dir(data.join("pg_tblspc")).is_ok_and(|mut entries| entries.next().is_some()) {
        return refused("it has tablespaces");
    }
    Ok(())
}

fn exchange(installed: &Installation, new: &Path, old: &Path) -> Result<()> {
    let data = &installed.data;
    configuration::place(installed, &data.join(MARK), b"")?;
    fs::rename(data, old).with_context(|| format!("cannot rename {} to {}", data.display(), old.display()))?;
    if let Err(error) = fs::rename(new, data) {
        fs::rename(old, data).with_context(|| format!("the data directory is left as {}", old.display()))?;
        forget(&data.join(MARK))?;
        return Err(error).with_context(|| format!("cannot rename {} to {}", new.display(), data.display()));
    }
    sync_parent(data)
}

fn sync_parent(data: &Path) -> Result<()> {
    let parent = data.parent().context("a data directory in no directory")?;
    File::open(parent).and_then(|parent| parent.sync_all()).with_context(|| parent.display().to_string())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn forget(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
