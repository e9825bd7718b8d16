//! What is on this node's disk: the data directory, its owner, its version, and the programs of that version.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::{Uid, User};
use ocf::{Deadline, Failure, Kind, Output, Program, Run};

use crate::control::ControlData;
use crate::parameters::Settings;

/// Where the programs of a major version are, as GreenArrow, PGDG's RPMs, Debian and PyPI's servers have them.
const PLACES: [&str; 5] = [
    "/var/hvmail/postgres/VERSION/bin",
    "/usr/pgsql-VERSION/bin",
    "/usr/lib/postgresql/VERSION/bin",
    "/opt/postgresql/bin",
    "/usr/bin",
];
/// The oldest version whose ways are known here, as a number.
const OLDEST: u32 = 905;

/// A major version of PostgreSQL: 9.5 is 905, 16 is 1600.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32);

impl Version {
    /// Of the file PG_VERSION: `9.5` or `16`.
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        (major < 1000 && minor < 100).then_some(Self(major * 100 + minor))
    }

    pub(crate) fn read(data: &Path) -> Result<Self> {
        let path = data.join("PG_VERSION");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}; a data directory of PostgreSQL is expected there", path.display())
        })?;
        Self::parse(&text).with_context(|| format!("{}: {text:?} is no version", path.display()))
    }

    /// The settings of a standby are those of the server, and a file standby.signal makes one (release notes of 12).
    pub(crate) fn has_signal_file(self) -> bool {
        self.0 >= 1200
    }

    /// Functions say wal and lsn where they said xlog and location (release notes of 10), libpq tries several hosts.
    pub(crate) fn says_wal(self) -> bool {
        self.0 >= 1000
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.says_wal() { write!(f, "{}", self.0 / 100) } else { write!(f, "{}.{}", self.0 / 100, self.0 % 100) }
    }
}

/// The server as it is installed for one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    /// The data directory without symbolic links: where the server's processes stand.
    pub(crate) data: PathBuf,
    pub(crate) version: Version,
    pub(crate) user: User,
    bindir: PathBuf,
}

impl Installation {
    /// Finds everything, or says what is missing: for the actions that make something active.
    pub(crate) fn find(settings: &Settings) -> Result<Self, Failure> {
        let missing = |error: anyhow::Error| Failure::not_installed(format!("{error:#}"));
        let data = fs::canonicalize(&settings.datadir)
            .with_context(|| format!("cannot find the data directory {}", settings.datadir.display()))
            .map_err(missing)?;
        let version = Version::read(&data).map_err(missing)?;
        if version.0 < OLDEST {
            return Err(Failure::not_installed(format!(
                "{} is of PostgreSQL {version}; 9.5 or later is expected",
                data.display()
            )));
        }
        let user = user(settings, &data).map_err(missing)?;
        let bindir = bindir(settings, version).map_err(missing)?;
        Ok(Self { data, version, user, bindir })
    }

    /// Whether the directory is as the server wants it (checkDataDir, miscinit.c): its user's, and nobody else's to write.
    pub(crate) fn check_directory(&self) -> Result<(), Failure> {
        let facts = fs::metadata(&self.data).context(self.data.display().to_string())?;
        let owner = facts.uid();
        if owner != self.user.uid.as_raw() {
            let (data, user) = (self.data.display(), &self.user.name);
            let reason = format!(
                "{data} belongs to {} and not to {user}; set system_user, or: chown -R {user} {data}",
                name_of(owner)
            );
            return Err(Failure::new(Kind::Permission, reason));
        }
        let mode = facts.permissions().mode() & 0o7777;
        let allowed = if self.version.0 >= 1100 { 0o750 } else { 0o700 };
        if mode & !allowed != 0 {
            let data = self.data.display();
            let reason =
                format!("{data} has the mode {mode:o}; the server wants {allowed:o} at most: chmod 700 {data}");
            return Err(Failure::new(Kind::Permission, reason));
        }
        Ok(())
    }

    /// One of the server's programs, as the server's user and with his home, where libpq looks for .pgpass.
    pub(crate) fn program(&self, name: &str) -> Program {
        let path = self.bindir.join(name);
        let program = Program::new(&path.to_string_lossy()).variable("HOME", &self.user.dir.to_string_lossy());
        program.as_user(self.user.uid.as_raw(), self.user.gid.as_raw())
    }

    pub(crate) fn control_data(&self, deadline: Deadline) -> Result<ControlData> {
        let data = self.data.as_os_str().to_owned();
        let output =
            self.program("pg_controldata").args([data]).run(deadline).and_then(|o| o.success("pg_controldata"))?;
        ControlData::parse(&output.stdout)
    }

    /// What the server would take a setting for, from all its files and arguments (`postgres -C`).
    pub(crate) fn setting(&self, settings: &Settings, name: &str, deadline: Deadline) -> Result<String> {
        let words = ["-C".to_owned(), name.to_owned()];
        let output = self.server(settings, &words).run(deadline)?;
        Ok(output.success(&format!("postgres -C {name}"))?.stdout.trim_end_matches('\n').to_owned())
    }

    /// The server's own program, with its arguments and `more`.
    pub(crate) fn server(&self, settings: &Settings, more: &[String]) -> Program {
        let pgdata = settings.pgdata.to_string_lossy().into_owned();
        let words = ["-D".to_owned(), pgdata]
            .into_iter()
            .chain(settings.start_options.iter().cloned())
            .chain(more.iter().cloned());
        self.program("postgres").args(words)
    }

    pub(crate) fn bindir(&self) -> &Path {
        &self.bindir
    }

    /// The version that the programs are of must be that of the data.
    pub(crate) fn check_programs(&self, run: &Run) -> Result<(), Failure> {
        let said = self
            .program("postgres")
            .args(["-V"])
            .run(run.deadline)
            .and_then(|output: Output| output.success("postgres -V"));
        let said = said.map_err(|error| Failure::not_installed(format!("{error:#}; set bindir")))?.stdout;
        let version = said.split_whitespace().nth(2).and_then(|word| {
            let mut parts = word.split(|c: char| !c.is_ascii_digit());
            let (major, minor) = (parts.next()?, parts.next().unwrap_or("0"));
            let text = if major.parse::<u32>().ok()? >= 10 { major.to_owned() } else { format!("{major}.{minor}") };
            Version::parse(&text)
        });
        if version == Some(self.version) {
            return Ok(());
        }
        Err(Failure::not_installed(format!(
            "{}/postgres says it is {:?}, and {} is of PostgreSQL {}; set bindir to the programs of that version",
            self.bindir.display(),
            said.trim(),
            self.data.display(),
            self.version
        )))
    }
}

/// Who the server runs as.
pub(crate) fn user(settings: &Settings, data: &Path) -> Result<User> {
    if let Some(name) = &settings.system_user {
        let found = User::from_name(name).with_context(|| format!("cannot look up the user {name}"))?;
        return found.with_context(|| format!("this node has no user {name}; system_user names it"));
    }
    let owner = fs::metadata(data).with_context(|| format!("cannot look at {}", data.display()))?.uid();
    if owner == 0 {
        bail!("{} belongs to root, as whom PostgreSQL does not run; chown it, or set system_user", data.display());
    }
    let found = User::from_uid(Uid::from_raw(owner)).context("cannot look up a user")?;
    found.with_context(|| {
        format!("{} belongs to user {owner}, whom this node does not know; set system_user", data.display())
    })
}

fn name_of(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name)
}

fn bindir(settings: &Settings, version: Version) -> Result<PathBuf> {
    let places = match &settings.bindir {
        Some(bindir) => vec![bindir.clone()],
        None => PLACES.iter().map(|place| PathBuf::from(place.replace("VERSION", &version.to_string()))).collect(),
    };
    if let Some(place) = places.iter().find(|place| place.join("postgres").exists()) {
        return Ok(place.clone());
    }
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    bail!("the programs of PostgreSQL {version} are not in {}; install them, or set bindir", places.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_numberings() {
        for (text, number, shown) in
            [("9.5\n", 905, "9.5"), ("9.6", 906, "9.6"), ("10", 1000, "10"), ("16\n", 1600, "16")]
        {
            let version = Version::parse(text).unwrap();
            assert_eq!((version.0, version.to_string().as_str()), (number, shown));
        }
        assert!(["", "x", "16.", "16beta1"].iter().all(|text| Version::parse(text).is_none()));
        assert!(!Version(1100).has_signal_file() && Version(1200).has_signal_file());
    }
}
