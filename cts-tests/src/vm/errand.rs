//! A command that is run in a guest, like [`crate::command::Command`] on the host.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, bail};

use super::guest::Guest;
use super::message;
use crate::command::Output;

/// How long a command may take unless it says otherwise.
pub(super) const USUAL_LIMIT: Duration = Duration::from_secs(60);

/// A command line for a guest.
#[derive(Clone, Debug)]
pub struct Errand<'guest> {
    guest: &'guest Guest,
    argv: Vec<String>,
    stdin: Vec<u8>,
    limit: Duration,
}

impl<'guest> Errand<'guest> {
    pub(super) fn new(guest: &'guest Guest, argv: &[&str]) -> Self {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        Self { guest, argv, stdin: Vec::new(), limit: USUAL_LIMIT }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, word: &str) -> Self {
        self.argv.push(word.to_owned());
        self
    }

    /// What the command reads from its standard input (otherwise: nothing).
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets one variable of the command's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let assignment = format!("{name}={value}");
        if self.argv.first().is_none_or(|program| program != "env") {
            self.argv.insert(0, "env".into());
        }
        self.argv.insert(1, assignment);
        self
    }

    /// The longest time the command may take (otherwise: a minute).
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs to the end and captures, like [`crate::command::Command::run`].
    pub fn run(&self) -> Result<Output> {
        let limit = self.limit.as_millis().to_string();
        let argv = self.argv.iter().map(String::as_bytes);
        let fields = [limit.as_bytes(), &self.stdin].into_iter().chain(argv);
        let answer = self.guest.ask(message::RUN, fields, self.limit)?;
        let status = ExitStatus::from_raw(answer.text(0)?.parse()?);
        Ok(Output { status, stdout: answer.text(1)?, stderr: answer.text(2)? })
    }

    /// Runs to the end, demands exit status 0, and returns standard output.
    pub fn text(&self) -> Result<String> {
        let output = self.run()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        bail!("on {}: `{}`: {}: {}", self.guest.name, self.argv.join(" "), output.status, output.all().trim())
    }
}
