//! Waiting with a deadline that ends in a sentence.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition that costs nothing (a file, a flag in memory) is looked at.
pub const QUICK: Duration = Duration::from_millis(5);

/// How often a condition that costs a cluster tool (20 to 200 ms of CPU each) is looked at: on two cores a denser
/// row of them would slow the very thing that is waited for.
pub const TOOL: Duration = Duration::from_millis(250);

/// Asks `condition` every `step` until it holds, and returns how long that took.
///
/// `what` completes the sentence "waited N s for …" of the error after `limit`.
pub fn until(
    what: &str,
    limit: Duration,
    step: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    until_some(what, limit, step, || Ok(condition()?.then_some(()))).map(|((), took)| took)
}

/// Like [`until`], for a question that has an answer once the wait is over.
pub fn until_some<T>(
    what: &str,
    limit: Duration,
    step: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    let began = Instant::now();
    loop {
        if let Some(answer) = question()? {
            return Ok((answer, began.elapsed()));
        }
        if began.elapsed() >= limit {
            bail!("waited {:.1} s for {what}, in vain", limit.as_secs_f64());
        }
        thread::sleep(step);
    }
}
