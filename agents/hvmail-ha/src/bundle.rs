//! `hvmail_ha support-bundle`: one archive with what somebody needs who is to help, without its secrets.

mod pieces;
mod redaction;
mod scratch;
mod since;

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Arg, ArgMatches, Command, value_parser};
use jiff::Timestamp;
use nix::unistd::geteuid;

use crate::make::{DONE, say};
use crate::new_file::NewFile;
use crate::tools;
use pieces::{Content, Piece, collect};
use redaction::without_secrets;
use scratch::Scratch;

pub(crate) const NAME: &str = "support-bundle";
/// The archive is there, and something is missing in it.
const INCOMPLETE: u8 = 1;

const HELP: &str = "\
In it, as far as they are there: status, what the agents on this node say, the cluster's configuration and state, the
end of the logs (at most 4 MiB of each), what is set for Corosync, DRBD, PostgreSQL and the addresses, what the agents
remember, services, network, disks, versions of packages. It changes nothing, and waits for no piece longer than 30 s.

Not in it: mail, data, password files, keys. What is a password, secret, token or key by the name before it is replaced
by [removed], and so is the same word wherever else it stands. Names of hosts, addresses and users stay, and nothing
knows every secret: look through it before you send it. MANIFEST has a line for each piece: its source, its size, and
how many secrets were removed. not-collected.txt says what could not be had, and why.

Examples:
  hvmail_ha support-bundle                             hvmail_ha-NODE-TIME.tar.gz in this directory
  hvmail_ha support-bundle --output /root/n1.tar.gz    or where it is wanted; no file is overwritten
  hvmail_ha support-bundle --since 2h                  of the cluster's logs only the last two hours
  hvmail_ha support-bundle --since '2026-11-26 15:00'  or what came after that, in local time

Exit status:
  0  all that there is was collected
  1  the archive is there, and something is missing in it
  3  there is no archive";

pub(crate) fn command() -> Command {
    Command::new(NAME)
        .about("One archive with what somebody needs who is to help, without its secrets")
        .after_help(HELP)
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The archive, which must not exist yet; otherwise hvmail_ha-NODE-TIME.tar.gz in this directory"),
        )
        .arg(
            Arg::new("since").long("since").value_name("TIME").help(
                "Of the logs of Pacemaker, Corosync and the journal only what is later; or so long ago: 2h, 3days",
            ),
        )
}

/// What of a piece without its secrets, which has this name, goes into the archive.
type Cut<'a> = &'a dyn Fn(&str, Vec<u8>) -> Vec<u8>;

pub(crate) fn bundle(matches: &ArgMatches) -> Result<u8> {
    ensure!(geteuid().is_root(), "this needs root: it is run by user {}", geteuid());
    let now = since::now();
    let since = matches.get_one::<String>("since").map(|text| since::parse(text, &now)).transpose()?;
    let plain = |one: char| if one.is_ascii_alphanumeric() || "-.".contains(one) { one } else { '_' };
    let node: String = tools::own_name().chars().map(plain).collect();
    let title = format!("hvmail_ha-{node}-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let path = matches.get_one("output").cloned().unwrap_or_else(|| PathBuf::from(format!("{title}.tar.gz")));
    let archive = NewFile::create(&path);
    let mut archive =
        archive.with_context(|| format!("{} cannot be created; --output FILE names another", path.display()))?;
    let made = fill(&mut archive.file, &title, &|name, text| match &since {
        Some(since) => since::cut(name, text, since, &now),
        None => text,
    });
    let made = made.and_then(|missing| Ok(archive.keep().map(|()| missing)?));
    let missing = made.with_context(|| format!("there is no archive {}", path.display()))?;
    let status = if missing.is_empty() { DONE } else { INCOMPLETE };
    for what in missing {
        say(&format!("not collected: {what}"), status);
    }
    say(&std::path::absolute(&path).unwrap_or(path).display().to_string(), status);
    Ok(say("Look through it before you send it: nothing knows every secret", status))
}

/// What could not be had. Secrets are taken out before anything is written, so that none is left behind on a disk.
fn fill(archive: &mut File, title: &str, cut: Cut) -> Result<Vec<String>> {
    let scratch = Scratch::new(&std::env::temp_dir()).context("no directory for the pieces")?;
    let top = scratch.path.join(title);
    fs::create_dir(&top)?;
    let missing = write_out(&top, collect(), cut)?;
    let made = scratch.path.join("archive");
    let [file, directory] = [&made, &scratch.path].map(|path| path.to_string_lossy().into_owned());
    tools::archive(&file, &directory, title)?;
    io::copy(&mut File::open(&made)?, archive)?;
    Ok(missing)
}

/// Writes the pieces without their secrets, and the lists of what is there and what is not; the latter is handed back.
fn write_out(top: &Path, pieces: Vec<Piece>, cut: Cut) -> Result<Vec<String>> {
    let (texts, about): (Vec<_>, Vec<_>) = pieces
        .into_iter()
        .map(|piece| {
            let (kind, text) = match piece.content {
                Content::Here(bytes) => (Kind::Here, bytes),
                Content::Absent => (Kind::Absent, Vec::new()),
                Content::Failed(why) => (Kind::Failed, why.into_bytes()),
            };
            (text, (piece.name, piece.source, kind))
        })
        .unzip();
    let (mut manifest, mut missing) = (String::new(), Vec::new());
    for ((name, source, kind), (text, removed)) in about.into_iter().zip(without_secrets(texts)?) {
        let what = match kind {
            Kind::Here => {
                let text = cut(&name, text);
                write(top, &name, &text)?;
                format!("{} bytes, {removed} secrets removed", text.len())
            }
            Kind::Absent => "not on this node".to_owned(),
            Kind::Failed => {
                missing.push(format!("{source}: {}", String::from_utf8_lossy(&text)));
                "not collected".to_owned()
            }
        };
        manifest.extend([&name, ": ", &source, ": ", &what, "\n"]);
    }
    write(top, "MANIFEST", manifest.as_bytes())?;
    let list: String = missing.iter().flat_map(|what| [what.as_str(), "\n"]).collect();
    write(top, "not-collected.txt", list.as_bytes())?;
    Ok(missing)
}

enum Kind {
    Here,
    Absent,
    Failed,
}

fn write(top: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    // A path of the configuration (pgdata) may hold anything.
    if !Path::new(name).components().all(|one| matches!(one, Component::Normal(_))) {
        bail!("{name:?} would be written outside of the archive");
    }
    let path = top.join(name);
    fs::create_dir_all(path.parent().unwrap_or(top))?;
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use nix::unistd::mkdtemp;

    use super::*;

    #[test]
    fn what_is_there_and_what_is_not_is_listed_without_secrets() {
        let top = mkdtemp(&std::env::temp_dir().join("bundle-list.XXXXXX")).unwrap();
        let piece = |name: &str, content| Piece { name: name.to_owned(), source: format!("/{name}"), content };
        let missing = write_out(
            &top,
            vec![
                piece("etc/a", Content::Here(b"password=sesame1".to_vec())),
                piece("b", Content::Absent),
                piece("c", Content::Failed("it said sesame1".to_owned())),
            ],
            &|name, text| if name == "etc/a" { [text, b"!".to_vec()].concat() } else { text },
        );
        let read = |name: &str| fs::read_to_string(top.join(name)).unwrap();
        assert_eq!(missing.unwrap(), ["/c: it said [removed]"]);
        assert_eq!(read("etc/a"), "password=[removed]!");
        assert_eq!(read("not-collected.txt"), "/c: it said [removed]\n");
        let lines = "etc/a: /etc/a: 19 bytes, 1 secrets removed\nb: /b: not on this node\nc: /c: not collected\n";
        assert_eq!(read("MANIFEST"), lines);
        assert!(write_out(&top, vec![piece("x/../../y", Content::Here(Vec::new()))], &|_, text| text).is_err());
        fs::remove_dir_all(&top).unwrap();
    }
}
