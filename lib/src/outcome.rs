//! What an action found or why it failed, and the one place where that becomes an exit status.

use std::fmt;

/// What monitor found. Pacemaker knows six answers that are not failures of the monitor itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Active, or in a promotable clone: unpromoted.
    Running,
    /// Certainly not active. Doubt is a [`Failure`], never this.
    NotRunning,
    /// Active in the promoted role.
    RunningPromoted,
    /// Promoted and broken, or found with the marks of a promoted instance where there should be none.
    FailedPromoted,
    /// Active or unpromoted, with a fault that must be seen and must not cause a recovery.
    Degraded,
    /// Promoted, with a fault that must be seen and must not cause a recovery.
    DegradedPromoted,
}

impl State {
    /// What an instance is that does its work: in a promotable clone promoted, as a plain resource running.
    pub fn serving(promotable: bool) -> Self {
        if promotable { Self::RunningPromoted } else { Self::Running }
    }

    /// The same, degraded.
    pub fn serving_degraded(promotable: bool) -> Self {
        if promotable { Self::DegradedPromoted } else { Self::Degraded }
    }
}

/// So many bytes of an exit reason reach Pacemaker's users; what is longer is cut off in the middle of a word
/// (`EXIT_REASON_MAX_LEN`, 128 with the end of the string, and `parse_exit_reason` in its execd_commands.c).
const LONGEST_REASON: usize = 127;

/// A monitor's answer: the state, and the sentence that explains it where there is something to explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What the exit status says.
    pub state: State,
    /// What is wrong and what to do about it; becomes the exit reason.
    pub reason: Option<String>,
    /// What was found, for the log and for the person who runs monitor by hand.
    pub summary: String,
}

impl Finding {
    /// A state that needs no remedy; `summary` is what a person reads.
    pub fn plain(state: State, summary: impl Into<String>) -> Self {
        Self { state, reason: None, summary: summary.into() }
    }

    /// A state with something wrong in it; `reason` says what and what to do.
    pub fn because(state: State, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { state, summary: reason.clone(), reason: Some(reason) }
    }

    /// A state with several things wrong in it, the most important first. The exit reason has as many whole sentences as
    /// Pacemaker shows, and says how many more there are; the summary, and so the log, has all.
    pub fn because_of(state: State, reasons: &[String]) -> Self {
        Self { state, summary: reasons.join("; "), reason: Some(fitting(reasons)) }
    }
}

/// The first sentence however long it is, and those behind it for which there is room.
fn fitting(reasons: &[String]) -> String {
    let shown = |count: usize| {
        let text = reasons[..count].join("; ");
        match reasons.len() - count {
            0 => text,
            left => format!("{text}; and {left} more, see the log"),
        }
    };
    let most = (1..=reasons.len()).rev().map(shown).find(|text| text.len() <= LONGEST_REASON);
    most.or_else(|| reasons.first().cloned()).unwrap_or_default()
}

/// The failures of OCF 1.1 ("Return codes"). All but `Generic` are hard errors: Pacemaker does not try this node again,
/// and after `Configured` no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything that may go away by itself or by a recovery, and all doubt.
    Generic,
    /// The parameters cannot be right on this node.
    Arguments,
    /// The action does not exist.
    Unimplemented,
    /// Not allowed, usually: not root.
    Permission,
    /// Something that must be installed on this node is missing.
    Installed,
    /// The parameters cannot be right on any node.
    Configured,
}

/// A failed action: the status and the exit reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    reason: String,
}

impl Failure {
    /// A failure of a certain kind; `reason` says what was found, what was expected and what to do.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// Exit 1.
    pub fn generic(reason: impl Into<String>) -> Self {
        Self::new(Kind::Generic, reason)
    }

    /// Exit 5.
    pub fn not_installed(reason: impl Into<String>) -> Self {
        Self::new(Kind::Installed, reason)
    }

    /// Exit 6.
    pub fn not_configured(reason: impl Into<String>) -> Self {
        Self::new(Kind::Configured, reason)
    }

    /// Which of the failures it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// An error nobody gave a kind is a generic one; its chain of contexts becomes the reason, outermost first.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::generic(format!("{error:#}"))
    }
}

/// What an action that changes something, or checks something, ends with.
pub type Done = Result<(), Failure>;

/// What monitor ends with.
pub type Found = Result<Finding, Failure>;

/// The exit status of OCF 1.1 for what an action ended with.
pub(crate) fn exit_status(outcome: &Found) -> u8 {
    match outcome {
        Ok(finding) => match finding.state {
            State::Running => 0,
            State::NotRunning => 7,
            State::RunningPromoted => 8,
            State::FailedPromoted => 9,
            State::Degraded => 190,
            State::DegradedPromoted => 191,
        },
        Err(failure) => match failure.kind {
            Kind::Generic => 1,
            Kind::Arguments => 2,
            Kind::Unimplemented => 3,
            Kind::Permission => 4,
            Kind::Installed => 5,
            Kind::Configured => 6,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_the_status_of_the_standard() {
        let states = [
            (State::Running, 0),
            (State::NotRunning, 7),
            (State::RunningPromoted, 8),
            (State::FailedPromoted, 9),
            (State::Degraded, 190),
            (State::DegradedPromoted, 191),
        ];
        for (state, status) in states {
            assert_eq!(exit_status(&Ok(Finding::plain(state, ""))), status, "{state:?}");
        }
        let kinds = [
            (Kind::Generic, 1),
            (Kind::Arguments, 2),
            (Kind::Unimplemented, 3),
            (Kind::Permission, 4),
            (Kind::Installed, 5),
            (Kind::Configured, 6),
        ];
        for (kind, status) in kinds {
            assert_eq!(exit_status(&Err(Failure::new(kind, ""))), status, "{kind:?}");
        }
    }

    #[test]
    fn of_several_reasons_pacemaker_gets_whole_sentences_and_the_log_gets_all() {
        let reasons = |lengths: &[usize]| lengths.iter().map(|length| "x".repeat(*length)).collect::<Vec<_>>();
        for (lengths, shown) in [
            (&[20, 30][..], 2),
            // 127 bytes in all, and one more.
            (&[60, 65], 2),
            (&[60, 66], 1),
            (&[40, 40, 60, 10], 2),
            (&[60, 60, 60], 1),
        ] {
            let reasons = reasons(lengths);
            let finding = Finding::because_of(State::Degraded, &reasons);
            let reason = finding.reason.unwrap();
            let left = reasons.len() - shown;
            let more = if left > 0 { format!("; and {left} more, see the log") } else { String::new() };
            assert_eq!(reason, reasons[..shown].join("; ") + &more, "{lengths:?}");
            assert!(reason.len() <= LONGEST_REASON);
            assert_eq!(finding.summary, reasons.join("; "));
        }
        // The first one is said as a whole: what Pacemaker cuts off a person who runs monitor by hand can read.
        let long = reasons(&[200, 10]);
        assert_eq!(Finding::because_of(State::Degraded, &long).reason, Some(long[0].clone()));
        let one = Finding::because_of(State::Degraded, &long[..1]);
        assert_eq!(one, Finding::because(State::Degraded, long[0].clone()));
    }

    #[test]
    fn the_whole_chain_of_an_error_becomes_the_reason() {
        let error = anyhow::anyhow!("Permission denied").context("cannot open /etc/hvmail_primary_ips");
        let failure = Failure::from(error);
        assert_eq!(failure.kind(), Kind::Generic);
        assert_eq!(failure.reason(), "cannot open /etc/hvmail_primary_ips: Permission denied");
    }
}
