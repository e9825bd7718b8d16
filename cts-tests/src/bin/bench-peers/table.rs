//! Rows of measurements with their goals, printed as they are made.

use std::fs;
use std::thread;

use anyhow::Result;

/// What a measurement ought to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Ours costs at most so many times what the peer costs.
    AtMost(f64),
    /// The peer costs at least so many times what ours costs.
    Better(f64),
    /// Nobody set one; as with [`Goal::Better`], the ratio says how many times the peer's cost is of ours.
    None,
}

/// A table under its title.
pub(crate) struct Table {
    markdown: bool,
}

/// Columns: what, ours, the peer, ratio, goal, met or missed.
const WIDTHS: [usize; 6] = [53, 26, 30, 10, 9, 6];

impl Table {
    /// Prints title and heading.
    pub(crate) fn begin(title: &str, markdown: bool) -> Self {
        let table = Self { markdown };
        if markdown {
            println!("\n### {title}\n");
        } else {
            println!("\n{title}\n");
        }
        table.line(&["", "ours", "peer", "ratio", "goal", ""].map(str::to_owned));
        table.rule();
        table
    }

    /// A row of two costs in the same unit.
    pub(crate) fn compare(&self, what: &str, ours: &str, peer: &str, ours_to_peer: f64, goal: Goal) {
        let times_better = ours_to_peer.recip();
        let (ratio, wanted, met) = match goal {
            Goal::AtMost(limit) => {
                (format!("{} times", digits(ours_to_peer)), format!("<= {limit}"), Some(ours_to_peer <= limit))
            }
            Goal::Better(least) => {
                (format!("1/{}", digits(times_better)), format!("<= 1/{least}"), Some(times_better >= least))
            }
            Goal::None => (format!("1/{}", digits(times_better)), String::new(), None),
        };
        self.row(what, ours, peer, &ratio, &wanted, met);
    }

    /// A row of any kind.
    pub(crate) fn row(&self, what: &str, ours: &str, peer: &str, ratio: &str, goal: &str, met: Option<bool>) {
        let verdict = met.map_or("", |met| if met { "met" } else { "missed" });
        self.line(&[what, ours, peer, ratio, goal, verdict].map(str::to_owned));
    }

    fn line(&self, cells: &[String; 6]) {
        if self.markdown {
            println!("| {} |", cells.join(" | "));
            return;
        }
        let padded = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }

    fn rule(&self) {
        if self.markdown {
            println!("|{}", "---|".repeat(WIDTHS.len()));
        }
    }
}

/// Milliseconds, as far as they mean anything.
pub(crate) fn ms(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1000.0)
}

/// Three significant digits.
fn digits(number: f64) -> String {
    let decimals = match number {
        number if number < 10.0 => 2,
        number if number < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

/// The machine in a line.
pub(crate) fn machine() -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processors = thread::available_parallelism()?;
    Ok(format!("Linux {}, {processors} processors, load average {}", kernel.trim(), load()))
}

/// The load averages of 1, 5 and 15 minutes: ratios of a busy machine are blurred.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
