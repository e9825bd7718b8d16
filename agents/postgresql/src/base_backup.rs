//! A data directory that nothing else mends, replaced by a new base backup of the primary: the old one stays beside it.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use ocf::{Failure, Kind, Run};

use crate::configuration;
use crate::installation::Installation;
use crate::rejoin::{beside, own_files};

/// Takes the backup, and only when it is whole puts it in the place of the data directory. The caller starts the server.
pub(crate) fn replace(run: &Run, installed: &Installation, source: &str) -> Result<(), Failure> {
    check_replaceable(installed)?;
    let (data, new, old) = (&installed.data, beside(installed, "new"), beside(installed, "old"));
    remove(&new)?;
    DirBuilder::new().mode(0o700).create(&new).with_context(|| format!("cannot make {}", new.display()))?;
    chown(&new, Some(installed.user.uid.as_raw()), Some(installed.user.gid.as_raw())).context("chown")?;
    run.log.warning(&format!("a base backup of the primary is taken to {}", new.display()));
    let place = new.to_string_lossy().into_owned();
    let words = ["-D", place.as_str(), "-d", source, "-X", "stream", "-c", "fast", "-P", "-w"];
    let output =
        installed.program("pg_basebackup").args(words).run_telling(run.deadline, &mut |line| run.log.step(line));
    output.and_then(|output| output.success("pg_basebackup")).with_context(|| {
        format!("{} is as it was; a backup that needs more time needs a longer timeout of start", data.display())
    })?;
    for (path, content) in own_files(data) {
        configuration::place(installed, &new.join(path.file_name().unwrap_or_default()), &content)?;
    }
    remove(&old)?;
    exchange(data, &new, &old)?;
    run.log.warning(&format!("the old data directory is kept as {}; remove it when it is not wanted", old.display()));
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
    if device(data)? != device(data.parent().unwrap_or(data))? {
        return refused("it is a file system of its own");
    }
    let wal = crate::wal::directory(data)?;
    if fs::symlink_metadata(&wal).is_ok_and(|facts| facts.is_symlink()) {
        return refused("its log is elsewhere");
    }
    if fs::read_dir(data.join("pg_tblspc")).is_ok_and(|mut entries| entries.next().is_some()) {
        return refused("it has tablespaces");
    }
    Ok(())
}

fn exchange(data: &Path, new: &Path, old: &Path) -> Result<()> {
    fs::rename(data, old).with_context(|| format!("cannot rename {} to {}", data.display(), old.display()))?;
    if let Err(error) = fs::rename(new, data) {
        fs::rename(old, data).with_context(|| format!("the data directory is left as {}", old.display()))?;
        return Err(error).with_context(|| format!("cannot rename {} to {}", new.display(), data.display()));
    }
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
