//! An action of the agent as Pacemaker runs it in a promotable clone, and what it ends with.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::vm::guest::Guest;

pub(crate) const AGENT: &str = "/usr/lib/ocf/resource.d/greenarrow/drbd";
/// What the actions of a part have logged.
const LOG: &str = "/run/action.log";
/// The usual limit of an action here, in milliseconds.
pub(crate) const USUAL: u32 = 30_000;
/// An action that has nothing to wait for ends within this. It takes a tenth of a second, in an emulated guest that has nothing
/// else to do; where ocf:linbit:drbd waits in vain, it does so for 15 s or for ever.
const AT_ONCE: Duration = Duration::from_secs(5);

/// An action to run.
pub(crate) struct Action<'a> {
    guest: &'a Guest,
    resource: &'a str,
    name: &'a str,
    timeout: u32,
    more: Vec<(String, String)>,
}

/// What it ended with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) reason: String,
    pub(crate) took: Duration,
}

impl<'a> Action<'a> {
    /// Of r0; `probe` is a monitor without an interval.
    pub(crate) fn new(guest: &'a Guest, name: &'a str) -> Self {
        Self { guest, resource: "r0", name, timeout: USUAL, more: Vec::new() }
    }

    pub(crate) fn of(self, resource: &'a str) -> Self {
        Self { resource, ..self }
    }

    pub(crate) fn within(self, timeout: u32) -> Self {
        Self { timeout, ..self }
    }

    pub(crate) fn parameter(mut self, name: &str, value: &str) -> Self {
        self.more.push((format!("OCF_RESKEY_{name}"), value.to_owned()));
        self
    }

    /// What Pacemaker tells besides.
    pub(crate) fn meta(self, name: &str, value: &str) -> Self {
        self.parameter(&format!("CRM_meta_{name}"), value)
    }

    /// Runs it, and fails when it takes longer than Pacemaker would let it.
    pub(crate) fn run(&self) -> Result<Answer> {
        let (name, interval) = if self.name == "probe" { ("monitor", "0") } else { (self.name, "10000") };
        let begun = Instant::now();
        let errand = self.guest.command(&[AGENT, name]).stdin("").within(Duration::from_secs(120));
        // What is set first counts.
        let errand = self.more.iter().fold(errand, |errand, (name, value)| errand.env(name, value));
        let errand = errand.env("OCF_ROOT", "/usr/lib/ocf").env("OCF_RESOURCE_INSTANCE", self.resource);
        let errand = errand.env("OCF_RESKEY_drbd_resource", self.resource).env("OCF_RESKEY_crm_feature_set", "3.16.1");
        let errand = errand.env("OCF_RESKEY_CRM_meta_promoted_max", "1").env("OCF_RESKEY_CRM_meta_interval", interval);
        let errand = errand.env("OCF_RESKEY_CRM_meta_timeout", &self.timeout.to_string()).env("HA_LOGFILE", LOG);
        let output = errand.run()?;
        let took = begun.elapsed();
        let (guest, resource, timeout) = (&self.guest.name, self.resource, self.timeout);
        // The way to the guest and back is in it.
        let limit = Duration::from_millis(timeout.into()) + Duration::from_millis(500);
        ensure!(
            took < limit,
            "{} of {resource} on {guest} took {took:?}, and has {timeout} ms: {}",
            self.name,
            output.all()
        );
        let reason = output.stderr.lines().find_map(|line| line.strip_prefix("ocf-exit-reason:")).unwrap_or_default();
        println!("{guest} {} {resource}: {:?} in {took:.1?} {reason}", self.name, output.code());
        let status = output.code().context("ended by a signal")?;
        Ok(Answer { status, reason: reason.to_owned(), took })
    }

    /// The same of an action that has nothing to wait for.
    pub(crate) fn expect_at_once(&self, status: i32, words: &[&str]) -> Result<Answer> {
        let answer = self.expect(status, words)?;
        ensure!(answer.took < AT_ONCE, "{} on {} had nothing to wait for: {answer:#?}", self.name, self.guest.name);
        Ok(answer)
    }

    /// Runs it, and compares the exit status and words of the reason; without words there must be no reason.
    pub(crate) fn expect(&self, status: i32, words: &[&str]) -> Result<Answer> {
        let answer = self.run()?;
        let named =
            words.iter().all(|word| answer.reason.contains(word)) && answer.reason.is_empty() == words.is_empty();
        ensure!(
            answer.status == status && named,
            "{} on {}: {status} and {words:?} expected: {answer:#?}",
            self.name,
            self.guest.name
        );
        Ok(answer)
    }
}

/// All that is to be seen of an action that has nothing to wait for: exit status, reason, and the score that the cluster has
/// then, in the words of crm_attribute.
pub(crate) fn at_once(guest: &Guest, action: &str, status: i32, words: &[&str], score: &str) -> Result<()> {
    let answer = Action::new(guest, action).expect_at_once(status, words)?;
    let told = crate::score(guest)?;
    ensure!(
        told == score,
        "{action} on {}: the score {score} is expected, and {told} was sent: {answer:#?}",
        guest.name
    );
    Ok(())
}

pub(crate) fn expect(guest: &Guest, action: &str, timeout: u32, status: i32, words: &[&str]) -> Result<()> {
    Action::new(guest, action).within(timeout).expect(status, words).map(drop)
}

/// Whether an action of this part has logged these words.
pub(crate) fn logged(guest: &Guest, words: &str) -> Result<()> {
    let log = guest.read_file(LOG)?;
    ensure!(log.contains(words), "{words:?} is not in the log of {}: {log}", guest.name);
    Ok(())
}
