//! Runs one check, and reads how it went from what is printed.

use std::io::{BufRead, BufReader, IsTerminal, pipe, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::command::{Command, command};
use cts_tests::installed;

use crate::checks::{Check, Kind};

/// The version of cargo-deny that deny.toml is written for.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// So much of what a failed test said is repeated at the end: lines, and characters of each.
const REPEATED: (usize, usize) = (12, 400);

/// How a check went.
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: &'static str,
    /// How long it took.
    pub(crate) took: Duration,
    /// How many tests passed.
    pub(crate) passed: u32,
    /// How many did not.
    pub(crate) failed: u32,
    /// What the failed ones said.
    pub(crate) said: Vec<String>,
}

fn tools() -> Result<PathBuf> {
    Ok(installed::target_directory()?.join("tools"))
}

/// cargo, with the tools installed by this program on its path, in the workspace.
fn cargo(arguments: &[&str]) -> Result<Command> {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", tools()?.join("bin").display());
    Ok(command(["cargo"]).args(arguments).env("PATH", path).directory(installed::workspace()))
}

/// Installs cargo-deny where this workspace keeps its tools, unless it is there.
pub(crate) fn require_cargo_deny() -> Result<()> {
    if cargo(&["deny", "--version"])?.run()?.status.success() {
        return Ok(());
    }
    println!("installing {CARGO_DENY} under {}: a build of some minutes", tools()?.display());
    let install = cargo(&["install", "--debug", "--locked", "--quiet", CARGO_DENY, "--root"])?.arg(tools()?);
    let status = install.watched()?;
    ensure!(status.success(), "{install}: {status}");
    Ok(())
}

/// cargo's arguments for a check.
fn arguments(kind: &Kind) -> Vec<&'static str> {
    // One cluster at a time; --nocapture shows what each scenario measured.
    const TESTS: [&str; 5] = ["--no-fail-fast", "--locked", "--", "--test-threads=1", "--nocapture"];
    match kind {
        Kind::Cargo(arguments) => arguments.to_vec(),
        Kind::Units => [&["test", "--workspace", "--lib", "--bins"][..], &TESTS].concat(),
        Kind::Tests(files) | Kind::Guests(files) | Kind::Clusters(files) => {
            let files: Vec<_> = files.iter().flat_map(|file| ["--test", *file]).collect();
            [&["test", "--package", "cts-tests"][..], &files, &TESTS].concat()
        }
    }
}

/// Runs one check with its output passed through, each line behind `margin`.
pub(crate) fn run(check: &'static Check, margin: &str) -> Result<Outcome> {
    println!("{margin}\n{margin}==== {}: {}", check.name, check.about);
    let began = Instant::now();
    let color = if stdout().is_terminal() { "always" } else { "never" };
    let (output, input) = pipe()?;
    let cargo = cargo(&arguments(&check.kind))?.env("CARGO_TERM_COLOR", color).env("RUST_BACKTRACE", "0");
    let mut child = cargo.start_into(input)?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{margin}{line}");
        tally.read(&line);
    }
    let succeeded = child.wait()?.success();
    let Tally { mut passed, mut failed, said, .. } = tally;
    if let Kind::Cargo(_) = check.kind {
        (passed, failed) = if succeeded { (1, 0) } else { (0, 1) };
    } else if !succeeded || passed + failed == 0 {
        // It did not compile, or a test took its whole process with it, or there was nothing to run.
        failed = failed.max(1);
    }
    Ok(Outcome { name: check.name, took: began.elapsed(), passed, failed, said })
}

/// What was read of the output of `cargo test`.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    /// What the failed tests of the files read to their ends said.
    said: Vec<String>,
    /// What may be that, in the file that is being read: a test may panic and pass.
    maybe: Vec<String>,
    /// How many more lines belong to what is being said.
    more: usize,
}

impl Tally {
    fn read(&mut self, line: &str) {
        let (lines, characters) = REPEATED;
        if line.contains("test result:") {
            let failed = count(line, " failed");
            self.passed += count(line, " passed");
            self.failed += failed;
            let maybe = std::mem::take(&mut self.maybe);
            self.said.extend(maybe.into_iter().filter(|_| failed > 0));
            self.more = 0;
        } else if ["Error: ", " panicked at ", "Caused by:"].iter().any(|word| line.contains(word)) {
            self.more = lines;
        }
        if self.more > 0 && !line.trim().is_empty() {
            self.maybe.push(line.chars().take(characters).collect());
            self.more -= 1;
        }
    }
}

/// The number before `word` in cargo's `test result: ok. 3 passed; 0 failed; …`.
fn count(line: &str, word: &str) -> u32 {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{REPEATED, Tally, count};

    #[test]
    fn cargo_test_lines_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!((count(line, " passed"), count(line, " failed")), (12, 3));
    }

    #[test]
    fn what_failed_tests_say_is_kept_and_what_others_say_is_not() {
        let mut tally = Tally::default();
        let passes = "test result: ok. 1 passed; 0 failed; 0 ignored";
        let fails = "test result: FAILED. 0 passed; 1 failed; 0 ignored";
        for line in
            ["thread 'expected' panicked at a.rs:1:", passes, "test a ... Error: in vain", "", "Caused by:", fails]
        {
            tally.read(line);
        }
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert_eq!(tally.said, ["test a ... Error: in vain", "Caused by:"]);
        for line in ["Error: long"].iter().chain(std::iter::repeat_n(&"more", 100)).chain([&fails]) {
            tally.read(line);
        }
        assert_eq!(tally.said.len(), 2 + REPEATED.0);
    }
}
