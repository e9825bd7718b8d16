//! How long an action may take, so that it can say what it waited for before it is killed.

use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

/// Pacemaker answers a missed timeout with SIGKILL to the whole process group and no warning (`services_linux.c`,
/// `services__handle_exec_error` and the timeout callback). An action that keeps this share of its timeout for itself
/// still has time to end its children and to print the exit reason.
const RESERVE_SHARE: u32 = 10;
/// On a loaded machine a process may wait this long for a processor; less reserve than that saves nothing.
const RESERVE_LEAST: Duration = Duration::from_millis(200);
/// Beyond this, reserve is only time taken from the work.
const RESERVE_MOST: Duration = Duration::from_secs(3);

/// A point in time after which nothing may be waited for, and the budget it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    budget: Duration,
}

impl Deadline {
    /// A deadline that ends `budget` from the call.
    pub fn after(budget: Duration) -> Self {
        Self { at: Instant::now() + budget, budget }
    }

    /// The deadline of an action that Pacemaker kills after `timeout`: the timeout less a reserve for the last words.
    pub fn for_action(timeout: Duration) -> Self {
        let reserve = (timeout / RESERVE_SHARE).clamp(RESERVE_LEAST, RESERVE_MOST);
        Self::after(timeout.saturating_sub(reserve).max(timeout / 2))
    }

    /// The earlier of this deadline and one that ends `budget` from the call: for a step that must not use up the
    /// whole action.
    #[must_use]
    pub fn at_most(self, budget: Duration) -> Self {
        let step = Self::after(budget);
        if step.at < self.at { step } else { self }
    }

    /// What is left; zero when the deadline has passed.
    pub fn remaining(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is left.
    pub fn passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The whole budget this deadline was made with, for sentences such as "no answer within 18 s".
    pub fn budget(self) -> Duration {
        self.budget
    }

    /// Sleeps for `pause`, or for what is left if that is shorter. False once the deadline has passed.
    pub fn sleep(self, pause: Duration) -> bool {
        std::thread::sleep(pause.min(self.remaining()));
        !self.passed()
    }

    /// What is left as poll(2) wants it: milliseconds, rounded up so that a caller does not spin through the last one.
    pub fn poll_timeout(self) -> PollTimeout {
        let millis = self.remaining().as_nanos().div_ceil(1_000_000);
        PollTimeout::try_from(u64::try_from(millis).unwrap_or(u64::MAX)).unwrap_or(PollTimeout::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_keeps_a_tenth_of_its_timeout_for_its_last_words() {
        assert_eq!(Deadline::for_action(Duration::from_secs(20)).budget(), Duration::from_secs(18));
        assert_eq!(Deadline::for_action(Duration::from_secs(600)).budget(), Duration::from_secs(597));
        assert_eq!(Deadline::for_action(Duration::from_secs(1)).budget(), Duration::from_millis(800));
    }

    #[test]
    fn even_an_absurd_timeout_leaves_half_for_the_work() {
        assert_eq!(Deadline::for_action(Duration::from_millis(100)).budget(), Duration::from_millis(50));
    }

    #[test]
    fn a_step_never_outlives_its_action() {
        let action = Deadline::after(Duration::from_millis(50));
        assert_eq!(action.at_most(Duration::from_secs(5)), action);
        assert!(action.at_most(Duration::from_millis(1)).remaining() <= Duration::from_millis(1));
    }

    #[test]
    fn a_passed_deadline_polls_without_waiting() {
        let deadline = Deadline::after(Duration::ZERO);
        assert!(deadline.passed());
        assert_eq!(deadline.poll_timeout(), PollTimeout::ZERO);
        assert!(!deadline.sleep(Duration::from_secs(60)));
    }
}
