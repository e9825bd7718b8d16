//! The other servers, asked as a standby's receiver asks them, by libpq, with the same connection string, user and
//! password file: why a standby does not stream, and whether there is a second primary.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use ocf::{Output, Run};

use crate::configuration::source;
use crate::control;
use crate::installation::Installation;
use crate::parameters::Settings;
use crate::peers;
use crate::record;

/// How old an answer may be: asking takes a program and a connection.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// The connection string gives each host two seconds.
const PATIENCE: Duration = Duration::from_secs(8);

/// Whose connection it is, and what is known of it here.
struct Caller<'a> {
    user: &'a str,
    port: u16,
    password_file: PathBuf,
    system_identifier: u64,
    log: &'a Path,
}

/// The sentence; None where nobody could be asked.
pub(crate) fn why_deaf(run: &Run, settings: &Settings) -> Option<String> {
    if let Some(known) = record::inquiry(&run.store, ASK_AGAIN) {
        return Some(known);
    }
    let explained = ask(run, settings).map_err(|error| run.log.debug(&format!("{error:#}"))).ok()?;
    if let Err(error) = record::note_inquiry(&run.store, &explained) {
        run.log.warning(&format!("{error:#}"));
    }
    Some(explained)
}

/// The sentence of a primary beside which another server accepts writes.
pub(crate) fn second_primary(run: &Run, settings: &Settings) -> Option<String> {
    let (installed, output) = identify(run, settings).map_err(|error| run.log.debug(&format!("{error:#}"))).ok()?;
    // Before 10 libpq takes a standby as well.
    if !installed.version.says_wal() || !output.status.success() {
        return None;
    }
    let others = settings.hosts.others(&peers::own_name(run)).join(" or ");
    Some(second(&output.stdout, &others))
}

/// Of `SYSTEM|TIMELINE|LSN|DATABASE`, which IDENTIFY_SYSTEM answers.
fn second(answer: &str, others: &str) -> String {
    let timeline = answer.split('|').nth(1).unwrap_or("unknown");
    format!("the server at {others} accepts writes too, on timeline {timeline}")
}

/// The first of the other servers that accepts writes says who it is.
fn identify(run: &Run, settings: &Settings) -> Result<(Installation, Output)> {
    let installed = Installation::find(settings).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let source = source(settings, installed.version, &peers::own_name(run)).context("nobody to be asked")?;
    // Of a word that occurs twice libpq takes the last.
    let connection = format!("{source} application_name=ocf replication=true");
    let words = ["-XAtqw", "-d", &connection, "-c", "IDENTIFY_SYSTEM"];
    let deadline = run.deadline.at_most(PATIENCE.min(run.deadline.remaining() / 2));
    let output = installed.program("psql").args(words).run(deadline)?;
    Ok((installed, output))
}

fn ask(run: &Run, settings: &Settings) -> Result<String> {
    let (installed, output) = identify(run, settings)?;
    let caller = Caller {
        user: &settings.replication_user,
        port: settings.port,
        password_file: installed.user.dir.join(".pgpass"),
        system_identifier: control::system_identifier(&installed.data)?,
        log: &settings.logfile,
    };
    if !output.status.success() {
        run.log.info(&format!("the primary was asked why this standby does not stream: {}", words_of(&output)));
    }
    Ok(explained(&output.stdout, output.status.success(), &words_of(&output), &caller))
}

fn words_of(output: &Output) -> String {
    output.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// libpq's own words are in the C locale, in which the library runs programs; the server's may be in any language.
fn explained(answer: &str, success: bool, words: &str, caller: &Caller) -> String {
    let (user, file) = (caller.user, caller.password_file.display());
    if success {
        let primarys = answer.split('|').next().and_then(|word| word.trim().parse::<u64>().ok());
        return match primarys {
            Some(other) if other != caller.system_identifier => {
                "this node's database is no copy of the primary's (system identifiers differ): take a new base backup"
                    .to_owned()
            }
            _ => format!("the standby does not stream although the primary lets it in: see {}", caller.log.display()),
        };
    }
    if words.contains("has group or world access") {
        return format!("the standby's password file is not used, for others may read it: chmod 600 {file}");
    }
    if words.contains("password retrieved from file") {
        return format!("the primary refuses the password of {user}: correct it in {file}");
    }
    if words.contains("no password supplied") {
        let line = format!("*:{}:*:{user}:PASSWORD", caller.port);
        return format!("the primary wants a password: put {line} into {file}, mode 600");
    }
    // libpq from 14 on, and before.
    if words.contains("session is read-only") || words.contains("could not make a writable connection") {
        return "there is no primary to stream from: the servers of primary_hosts that answer accept no writes"
            .to_owned();
    }
    let words = words.strip_prefix("psql: error: ").or_else(|| words.strip_prefix("psql: ")).unwrap_or(words);
    format!("no primary lets the standby in: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &str, words: &str) -> String {
        let caller = Caller {
            user: "repl",
            port: 5432,
            password_file: "/var/lib/pgsql/.pgpass".into(),
            system_identifier: 7,
            log: Path::new("/var/log/ocf-postgresql.log"),
        };
        explained(answer, words.is_empty(), words, &caller)
    }

    #[test]
    fn a_second_primary_is_named_with_its_timeline() {
        let sentence = second("7|3|0/3000060|\n", "192.0.2.2");
        assert_eq!(sentence, "the server at 192.0.2.2 accepts writes too, on timeline 3");
    }

    /// What psql 11 and 16 print.
    #[test]
    fn what_libpq_says_becomes_a_sentence_that_pacemaker_shows_whole() {
        let refused =
            "psql: FATAL: password authentication failed for user \"repl\" password retrieved from file \"/x\"";
        let before = "psql: error: connection to server at \"192.0.2.1\", port 5432 failed: ";
        for (answer, words, expected) in [
            ("", refused.to_owned(), "the primary refuses the password of repl: correct it in /var/lib/pgsql/.pgpass"),
            (
                "",
                format!("{before}fe_sendauth: no password supplied"),
                "the primary wants a password: put *:5432:*:repl:PASSWORD into /var/lib/pgsql/.pgpass, mode 600",
            ),
            (
                "",
                format!(
                    "WARNING: password file \"/x\" has group or world access; permissions {before}fe_sendauth: no password supplied"
                ),
                "the standby's password file is not used, for others may read it: chmod 600 /var/lib/pgsql/.pgpass",
            ),
            (
                "8|1|0/3000060|\n",
                String::new(),
                "this node's database is no copy of the primary's (system identifiers differ): take a new base backup",
            ),
            (
                "7|1|0/3000060|\n",
                String::new(),
                "the standby does not stream although the primary lets it in: see /var/log/ocf-postgresql.log",
            ),
        ] {
            let sentence = said(answer, &words);
            assert_eq!(sentence, expected);
            assert!(sentence.len() <= 127, "{sentence}");
        }
        let other = said("", &format!("{before}FATAL: no pg_hba.conf entry"));
        assert!(other.ends_with("port 5432 failed: FATAL: no pg_hba.conf entry") && !other.contains("psql"), "{other}");
    }
}
