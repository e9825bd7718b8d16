//! How hard a service is asked to end: how long after each signal it is waited for.

use std::time::Duration;

use nix::sys::signal::Signal;

/// What is asked, in this order, with the letter that makes supervise send it (svc(8)).
pub(crate) const STEPS: [(Signal, &str); 3] = [(Signal::SIGTERM, "d"), (Signal::SIGINT, "i"), (Signal::SIGKILL, "k")];

/// The time after SIGTERM, SIGINT and SIGKILL; fewer than three end earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Escalation(Vec<Duration>);

impl Default for Escalation {
    fn default() -> Self {
        Self([120, 20, 10].map(Duration::from_secs).into())
    }
}

impl Escalation {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()).collect();
        if words.is_empty() || words.len() > STEPS.len() {
            return Err(format!(
                "one to three times are expected, after TERM, INT and KILL; there are {}",
                words.len()
            ));
        }
        let time = |word: &&str| {
            let time = ocf::parse_time(word).filter(|time| (100..=3_600_000).contains(time));
            time.map(Duration::from_millis)
                .ok_or_else(|| format!("{word:?} is not a time from 100ms to 1h, such as 90s"))
        };
        words.iter().map(time).collect::<Result<_, _>>().map(Self)
    }

    /// The same fitted into what is left of an action. The wait after SIGTERM, the long one, gives way first: it is cut so
    /// that the others keep theirs. If these alone take more than half of what is left, they are shortened to that half.
    pub(crate) fn within(&self, remaining: Duration) -> Self {
        let [term, others @ ..] = self.0.as_slice() else { return self.clone() };
        let wanted: Duration = others.iter().sum();
        let half = remaining / 2;
        let shorten = |time: &Duration| {
            if wanted > half { time.mul_f64(half.as_secs_f64() / wanted.as_secs_f64()) } else { *time }
        };
        let others: Vec<Duration> = others.iter().map(shorten).collect();
        let term = (*term).min(remaining.saturating_sub(others.iter().sum()));
        Self(std::iter::once(term).chain(others).collect())
    }

    /// Each step with its time.
    pub(crate) fn steps(&self) -> impl Iterator<Item = ((Signal, &'static str), Duration)> {
        STEPS.into_iter().zip(self.0.iter().copied())
    }

    /// What was sent, for a sentence.
    pub(crate) fn words(&self) -> &'static str {
        match self.0.len() {
            1 => "TERM was sent, INT and KILL are not in stop_escalation",
            2 => "TERM and INT were sent, KILL is not in stop_escalation",
            _ => "TERM, INT and KILL were sent",
        }
    }
}

pub(crate) fn is_escalation(text: &str) -> Result<(), String> {
    Escalation::parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(text: &str, seconds: u64) -> Vec<u64> {
        let fitted = Escalation::parse(text).unwrap().within(Duration::from_secs(seconds));
        fitted.steps().map(|(_, time)| time.as_secs()).collect()
    }

    #[test]
    fn the_wait_after_term_gives_way_first() {
        assert_eq!(within("120s 20s 10s", 300), [120, 20, 10]);
        assert_eq!(within("120s 20s 10s", 100), [70, 20, 10]);
        assert_eq!(within("120s 20s 10s", 18), [9, 6, 3]);
        assert_eq!(within("120s 20s 10s", 0), [0, 0, 0]);
        assert_eq!(within("120s", 30), [30]);
    }

    #[test]
    fn one_to_three_times_are_understood() {
        assert_eq!(Escalation::parse("120s, 20s 10s").unwrap(), Escalation::default());
        for wrong in ["", "1 2 3 4", "soon", "0", "2h", "60s never"] {
            assert!(Escalation::parse(wrong).is_err(), "{wrong}");
        }
    }
}
