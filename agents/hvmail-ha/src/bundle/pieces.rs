//! What is collected, and from where.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::OFlag;

use crate::cib::Configuration;
use crate::picture::Picture;
use crate::screen::{Style, screen};
use crate::within::{PATIENCE, within};
use crate::{reports, tools};

/// Of a longer file the end is kept: what happened last.
const LONGEST: u64 = 4 << 20;
/// Where these are unless the configuration says otherwise: the agents' own defaults, and GreenArrow's.
const SERVICES: &str = "/service";
const ADDRESSES: &str = "/etc/hvmail_primary_ips";
const DATA: &str = "/var/hvmail/postgres/default/data";
/// What of the database's directory is configuration.
const OF_DATA: [&str; 7] = [
    "postgresql.conf",
    "postgresql.auto.conf",
    "ocf-postgresql.conf",
    "recovery.conf",
    "pg_hba.conf",
    "PG_VERSION",
    "postmaster.opts",
];
/// Never among them: authkey of Corosync and Pacemaker, .pgpass, keys of TLS.
const FILES: [&str; 12] = [
    "/etc/corosync/corosync.conf",
    "/etc/os-release",
    "/etc/drbd.conf",
    "/etc/fstab",
    "/proc/drbd",
    "/proc/mounts",
    "/proc/meminfo",
    "/proc/loadavg",
    "/var/log/pacemaker/pacemaker.log",
    "/var/log/pacemaker.log",
    "/var/log/corosync/corosync.log",
    "/var/log/cluster/corosync.log",
];
/// Directories, every file of which is taken.
const DIRECTORIES: [&str; 2] = ["/etc/drbd.d", "/run/resource-agents"];
/// Each with its name in the archive. The kernel's log is shorter than what is kept of a program's output.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("cib.xml", &["cibadmin", "--query"]),
    ("crm_mon.xml", &["crm_mon", "--one-shot", "--output-as=xml", "--inactive", "--operations", "--failcounts"]),
    ("crm_mon.txt", &["crm_mon", "--one-shot", "--inactive", "--show-node-attributes", "--failcounts", "--operations"]),
    ("fencing-history.txt", &["stonith_admin", "--history", "*", "--verbose"]),
    ("corosync-links.txt", &["corosync-cfgtool", "-s"]),
    ("corosync-quorum.txt", &["corosync-quorumtool", "-s"]),
    ("drbd-status.txt", &["drbdsetup", "status", "--verbose", "--statistics"]),
    ("drbd-versions.txt", &["drbdadm", "--version"]),
    ("addresses.txt", &["ip", "-details", "address"]),
    ("routes.txt", &["ip", "route", "show", "table", "all"]),
    ("links.txt", &["ip", "-statistics", "link"]),
    // Without their arguments, in which passwords of any form may stand.
    ("processes.txt", &["ps", "-e", "-o", "pid,ppid,user,stat,lstart,comm"]),
    ("disks.txt", &["df", "-P"]),
    ("kernel.txt", &["uname", "-a"]),
    ("uptime.txt", &["uptime"]),
    ("kernel-log.txt", &["dmesg"]),
    (
        "journal.txt",
        &["journalctl", "--no-pager", "--lines=4000", "--unit=pacemaker", "--unit=corosync", "--unit=greenarrow"],
    ),
    ("packages-rpm.txt", &["rpm", "-qa"]),
    ("packages-dpkg.txt", &["dpkg-query", "--show"]),
];

/// What became of one thing that was wanted.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Its name in the archive.
    pub(crate) name: String,
    /// The command or the file.
    pub(crate) source: String,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Here(Vec<u8>),
    /// Not on this machine, which may be as it should: not every pair has everything.
    Absent,
    /// It is there, or should be, and could not be had.
    Failed(String),
}

impl Piece {
    fn new(name: &str, source: &str, found: Result<Option<Vec<u8>>>) -> Self {
        let content = match found {
            Ok(Some(bytes)) => Content::Here(bytes),
            Ok(None) => Content::Absent,
            Err(error) => Content::Failed(format!("{error:#}")),
        };
        Self { name: name.to_owned(), source: source.to_owned(), content }
    }

    /// A file, which keeps its path.
    fn file(path: &str) -> Self {
        let wanted = path.to_owned();
        Self::new(path.trim_start_matches('/'), path, within(PATIENCE, move || end_of(Path::new(&wanted))))
    }
}

/// Collects everything, one after the other; no piece keeps another from being collected.
pub(crate) fn collect() -> Vec<Piece> {
    let picture = Picture::take();
    let mut pieces = shown(&picture);
    pieces.extend(PROGRAMS.iter().map(|(name, argv)| Piece::new(name, &argv.join(" "), said(argv))));
    let configuration = picture.map(|picture| picture.configuration).unwrap_or_default();
    let services = parameter(&configuration, "services", &["service_dir"], SERVICES);
    pieces.push(Piece::new("services.txt", &format!("svstat {services}/*"), services_of(&services)));
    let data = parameter(&configuration, "postgresql", &["pgdata", "datadir"], DATA);
    let mut files: Vec<String> = FILES.map(str::to_owned).into();
    files.push(parameter(&configuration, "primary-ips", &["ip_file"], ADDRESSES));
    files.extend(OF_DATA.iter().map(|name| format!("{data}/{name}")));
    for directory in DIRECTORIES {
        match within(PATIENCE, || entries(directory)) {
            Ok(found) => files.extend(found),
            Err(error) => pieces.push(Piece::new(directory.trim_start_matches('/'), directory, Err(error))),
        }
    }
    pieces.extend(files.iter().map(|path| Piece::file(path)));
    pieces
}

/// drbdsetup would load the module where it is not (drbd-utils, drbdsetup.c: modprobe_drbd); here nothing is changed.
fn said(argv: &[&str]) -> Result<Option<Vec<u8>>> {
    let loads = argv.first() == Some(&"drbdsetup") && !Path::new("/sys/module/drbd").exists();
    if loads { Ok(None) } else { tools::collected(argv) }
}

/// What `hvmail_ha status` shows, and the agents' words in full.
fn shown(picture: &Result<Picture>) -> Vec<Piece> {
    let take = |text: &dyn Fn(&Picture) -> Result<String>| match picture {
        Ok(picture) => text(picture).map(|text| Some(text.into_bytes())),
        Err(error) => Err(anyhow!("{error:#}")),
    };
    let words = |picture: &Picture| -> Result<String> {
        let line = |word: &crate::agents::Word| {
            let status = word.status.map_or_else(|| "no exit status".to_owned(), |status| status.to_string());
            format!("{}: {status}: {}\n", word.resource, word.text)
        };
        Ok(picture.words.iter().map(line).collect())
    };
    let screen = |picture: &Picture| Ok(screen(picture, Style { width: 140, colour: false }));
    vec![
        Piece::new("status.txt", "hvmail_ha status", take(&screen)),
        Piece::new("status.json", "hvmail_ha status --json", take(&|picture| Ok(reports::json(picture)?))),
        Piece::new("agents.txt", "monitor of each agent here, by hand", take(&words)),
    ]
}

fn parameter(configuration: &Configuration, agent: &str, names: &[&str], otherwise: &str) -> String {
    let resource = configuration.of_agent(agent);
    let set = resource.and_then(|one| names.iter().find_map(|name| one.parameter(name)));
    set.unwrap_or(otherwise).trim_end_matches('/').to_owned()
}

fn services_of(directory: &str) -> Result<Option<Vec<u8>>> {
    let wanted = directory.to_owned();
    let names = within(PATIENCE, move || entries(&wanted))?;
    if names.is_empty() {
        return Ok(None);
    }
    let argv: Vec<&str> = ["svstat"].into_iter().chain(names.iter().map(String::as_str)).collect();
    tools::collected(&argv)
}

/// The paths in a directory, sorted; none where there is no such directory.
fn entries(directory: &str) -> Result<Vec<String>> {
    let found = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.with_context(|| directory.to_owned())?,
    };
    let mut paths = Vec::new();
    for entry in found {
        // What no text can name would get another name in the archive.
        paths.extend(entry?.path().to_str().map(str::to_owned));
    }
    paths.sort();
    Ok(paths)
}

/// The end of a file, in whole lines; None where there is none. Others than root write in some of these directories: there
/// no link is followed and no file taken that has a second name, for behind either any secret could be.
fn end_of(path: &Path) -> Result<Option<Vec<u8>>> {
    let of_root = path.starts_with("/etc") || path.starts_with("/proc");
    let links = if of_root { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY | links).bits();
    let mut file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(anyhow!("it is a link, and none is followed here"));
        }
        file => file?,
    };
    let about = file.metadata()?;
    ensure!(about.is_file(), "it is no file");
    ensure!(of_root || about.nlink() == 1, "the file has {} names, one of them perhaps of a secret", about.nlink());
    let cut = about.len().saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(cut))?;
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content)?;
    if cut > 0 {
        // What begins in the middle of a line may be a secret whose name is not there.
        let line = content.iter().position(|byte| *byte == b'\n').map_or(content.len(), |end| end + 1);
        content.drain(..line);
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = PROGRAMS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), PROGRAMS.len());
    }

    #[test]
    fn links_and_second_names_are_not_read() {
        let directory = std::env::temp_dir().join(format!("bundle-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let [file, link, name] = ["file", "link", "name"].map(|name| directory.join(name));
        fs::write(&file, "content").unwrap();
        assert_eq!(end_of(&file).unwrap().as_deref(), Some(&b"content"[..]));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(end_of(&link).unwrap_err().to_string(), "it is a link, and none is followed here");
        fs::hard_link(&file, &name).unwrap();
        assert!(end_of(&name).unwrap_err().to_string().contains("2 names"));
        assert_eq!(end_of(&directory).unwrap_err().to_string(), "it is no file");
        assert!(end_of(&directory.join("none")).unwrap().is_none());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn of_a_long_file_the_end_is_kept_in_whole_lines() {
        let file = std::env::temp_dir().join(format!("bundle-long-{}", std::process::id()));
        let lines = usize::try_from(LONGEST).unwrap() / 10 + 100;
        fs::write(&file, "password=\n".repeat(lines) + "last\n").unwrap();
        let kept = end_of(&file).unwrap().unwrap();
        fs::remove_file(&file).unwrap();
        assert!(kept.len() as u64 <= LONGEST && kept.len() as u64 > LONGEST - 20);
        assert!(kept.starts_with(b"password=\n") && kept.ends_with(b"\nlast\n"));
    }
}
