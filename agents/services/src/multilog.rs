//! The last words of a service, from the log that its multilog(8) keeps.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::supervise::Status;

/// So much of a log's end is read.
const TAIL: u64 = 4096;
/// So many lines of it are shown.
const LINES: usize = 3;
/// So much of a line is shown.
const WIDTH: usize = 120;

/// The last lines that a service has logged, in one line; None when there is no log to be found.
pub(crate) fn last_words(service: &Path, name: &str) -> Option<String> {
    let text = candidates(service, name).iter().find_map(|path| tail(path))?;
    let lines: Vec<String> = text.lines().map(|line| without_label(line).chars().take(WIDTH).collect()).collect();
    let kept = &lines[lines.len().saturating_sub(LINES)..];
    (!kept.is_empty()).then(|| kept.join(" | "))
}

/// Where multilog writes is an argument in log/run; a running one has the file open. Otherwise the place of daemontools'
/// documentation, and GreenArrow's.
fn candidates(service: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let log = service.join("log");
    if let Ok(Some(Status { pid: Some(pid), .. })) = Status::read(&log) {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        found.extend(targets.filter(|path| path.file_name().is_some_and(|name| name == "current")));
    }
    found.push(log.join("main/current"));
    let short = name.strip_prefix("hvmail-").unwrap_or(name);
    found.push(Path::new("/var/hvmail/log").join(short).join("current"));
    found
}

fn tail(path: &Path) -> Option<String> {
    let mut options = OpenOptions::new();
    let mut file: File = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).ok()?;
    let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (!text.trim().is_empty()).then_some(text)
}

/// Without the time stamp that multilog's action `t` writes: `@` and 24 hexadecimal digits (tai64nlocal(8)).
fn without_label(line: &str) -> &str {
    match line.split_once(' ') {
        Some((label, rest)) if label.len() == 25 && label.starts_with('@') => rest.trim(),
        _ => line.trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_without_labels() {
        let directory = std::env::temp_dir().join(format!("services-multilog-{}", std::process::id()));
        fs::create_dir_all(directory.join("log/main")).unwrap();
        assert_eq!(last_words(&directory, "hvmail-x"), None);
        let line = |text: &str| format!("@400000006b032a342126e294 {text}\n");
        let text: String = ["first", "second", "third", "fatal: no\u{1b}[31m port"].map(line).concat();
        fs::write(directory.join("log/main/current"), text).unwrap();
        assert_eq!(last_words(&directory, "hvmail-x").unwrap(), "second | third | fatal: no\u{1b}[31m port");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_line_without_a_label_is_kept_whole() {
        assert_eq!(without_label("@4000 x"), "@4000 x");
        assert_eq!(without_label("plain words"), "plain words");
    }
}
