//! The file on another node, over ssh.
//!
//! sshd gives what it is sent to the user's shell (RFC 4254, 6.5: exec), so what is sent is one of two fixed scripts, with
//! words beside it that no shell reads anything into.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ocf::{Deadline, Output, Program};

/// How long the connection may take.
const CONNECT: &str = "ConnectTimeout=10";
/// How long the whole may.
const PATIENCE: Duration = Duration::from_secs(40);
/// What ssh itself ends with when it does not get through (ssh(1), EXIT STATUS).
const NOT_THROUGH: i32 = 255;
/// What [`FETCH`] ends with when there is no file.
const NO_FILE: i32 = 9;
/// The digest of a file that is not there.
pub(crate) const NONE: &str = "-";

/// PATH: its digest in a line, then its content.
const FETCH: &str = concat!(
    r#"set -e; test -e "$1" || exit 9; "#,
    r#"test -f "$1" || { echo "$1 is no plain file there" >&2; exit 8; }; "#,
    r#"sha256sum <"$1"; exec cat "$1""#
);

/// PATH NEW OLD: replaces the file whose digest is OLD by what comes in, whose digest is NEW. What has not come in whole is
/// not put in place; the file that was is PATH.bak. Nobody may be there any more who reads what it says: without its EXIT trap a
/// shell that dies of that (SIGPIPE) would leave the temporary file.
const PUT: &str = concat!(
    r#"set -e; umask 077; trap "" PIPE HUP; "#,
    r#"test ! -L "$1" || { echo "$1 is a link there: push does not replace it" >&2; exit 8; }; "#,
    r#"t=$(mktemp "$1.XXXXXXXX"); trap "rm -f \"$t\"" EXIT; cat >"$t"; "#,
    r#"test "$(sha256sum <"$t")" = "$2  -" || { echo "it did not arrive whole" >&2; exit 6; }; "#,
    r#"o=-; test ! -e "$1" || o=$(sha256sum <"$1" | cut -c 1-64); "#,
    r#"test "$o" = "$3" || { echo "$1 was changed there meanwhile" >&2; exit 5; }; "#,
    r#"if test -e "$1"; then chown --reference="$1" "$t"; chmod --reference="$1" "$t"; ln -fT "$1" "$1.bak"; "#,
    r#"else chmod 644 "$t"; fi; "#,
    r#"sync "$t"; mv -fT "$t" "$1"; sync "${1%/*}/"; sha256sum <"$1""#
);

/// A file of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// SHA-256.
    pub(crate) digest: String,
    pub(crate) content: String,
}

/// Reads the file of a node, if there is one.
pub(crate) fn fetch(node: &str, path: &str) -> Result<Option<Fetched>> {
    let output = run(node, &order(FETCH, &[path])?, Vec::new())?;
    if output.status.code() == Some(NO_FILE) {
        return Ok(None);
    }
    let output = done(output)?;
    ensure!((output.stdout.len() as u64) < super::listed::LARGEST, "{path} is larger there than what is looked into");
    let (digest, content) = output.stdout.split_once('\n').context("no digest came back")?;
    Ok(Some(Fetched { digest: first_word(digest)?, content: content.to_owned() }))
}

/// Puts `content` in the place of the file whose digest is `before`, and sees to it that it is there.
pub(crate) fn put(node: &str, path: &str, content: &[u8], before: &str) -> Result<()> {
    let digest = digest(content)?;
    let output = done(run(node, &order(PUT, &[path, &digest, before])?, content.to_vec())?)?;
    let there = first_word(&output.stdout)?;
    ensure!(there == digest, "{path} has digest {there} there, not {digest}: look at it, and at {path}.bak");
    Ok(())
}

/// SHA-256, in hexadecimal.
pub(crate) fn digest(content: &[u8]) -> Result<String> {
    let output = Program::new("sha256sum").input(content).run(Deadline::after(PATIENCE))?;
    first_word(&output.success("sha256sum")?.stdout)
}

fn first_word(text: &str) -> Result<String> {
    let word = text.split_whitespace().next().unwrap_or_default();
    let digest = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(digest, "a SHA-256 was expected, and came: {:?}", text.chars().take(80).collect::<String>());
    Ok(word.to_owned())
}

fn done(output: Output) -> Result<Output> {
    let words = output.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    match output.status.code() {
        Some(0) => Ok(output),
        Some(NOT_THROUGH) => bail!("ssh did not get through: {words}"),
        _ => bail!("{words} ({})", output.status),
    }
}

/// The one word that the other side's shell is given.
fn order(script: &str, words: &[&str]) -> Result<String> {
    for word in words {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        ensure!(
            !word.is_empty() && word.chars().all(plain) && !word.split('/').any(|part| part == ".."),
            "{word:?} is not given to a shell: letters, digits and / . _ - only"
        );
    }
    ensure!(words.first().is_some_and(|path| path.starts_with('/')), "the path has to be absolute");
    Ok(format!("sh -c '{script}' hvmail_ha {}", words.join(" ")))
}

fn arguments(node: &str, order: String) -> Result<Vec<String>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(!node.starts_with('-') && node.chars().all(plain) && !node.is_empty(), "{node:?} is no name of a host");
    let options = ["BatchMode=yes", CONNECT, "ServerAliveInterval=5", "ServerAliveCountMax=2"];
    let options = options.into_iter().flat_map(|option| ["-o", option]);
    let words = options.chain(["-T", "--", node]).map(str::to_owned);
    Ok(words.chain([order]).collect())
}

fn run(node: &str, order: &str, input: Vec<u8>) -> Result<Output> {
    let program = Program::new("ssh").args(arguments(node, order.to_owned())?).input(input);
    // The operator's keys may be in an agent.
    let program = match std::env::var("SSH_AUTH_SOCK") {
        Ok(socket) => program.variable("SSH_AUTH_SOCK", &socket),
        Err(_) => program,
    };
    program.run(Deadline::after(PATIENCE))
}

#[cfg(test)]
#[path = "ssh_tests.rs"]
mod tests;
