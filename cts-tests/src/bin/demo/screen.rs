//! What the demonstration shows: events with their times, and on a terminal below them the state of each node.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use cts_tests::greenarrow::ACTIVE;
use cts_tests::scenarios::Rig;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

use crate::services::running;

/// How often the live lines are refreshed: each look costs a run of ip(8) and a look at all processes for each node.
const REFRESH: Duration = Duration::from_millis(500);

/// Lines that scroll, and live lines under them if standard output is a terminal.
#[derive(Clone)]
pub(crate) struct Screen {
    began: Instant,
    live: Option<MultiProgress>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let live = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(5)));
        Self { began: Instant::now(), live }
    }

    /// An event, with the seconds since the demonstration began.
    pub(crate) fn say(&self, text: &str) {
        let event = format!("{:7.2} s  {text}", self.began.elapsed().as_secs_f64());
        match &self.live {
            // A terminal that has gone away is no reason to stop.
            Some(live) => drop(live.println(event)),
            None => println!("{event}"),
        }
    }

    /// Shows the nodes of `rig` until it is gone.
    pub(crate) fn follow(&self, rig: &Arc<Rig>) {
        let Some(live) = &self.live else { return };
        let style = ProgressStyle::with_template("  {prefix:>9}  {wide_msg}").unwrap_or(ProgressStyle::default_bar());
        let row = |prefix: String| live.add(ProgressBar::new(0).with_style(style.clone()).with_prefix(prefix));
        let nodes: Vec<_> = rig.cluster.nodes.iter().map(|node| row(node.name.clone())).collect();
        let outside = row("observer".to_owned());
        let rig = Arc::downgrade(rig);
        thread::spawn(move || {
            while let Some(rig) = Weak::upgrade(&rig) {
                show(&rig, &nodes, &outside);
                drop(rig);
                thread::sleep(REFRESH);
            }
        });
    }

    /// Takes the live lines away, so that the terminal is as it was.
    pub(crate) fn finish(&self) {
        if let Some(live) = &self.live {
            // As above.
            drop(live.clear());
            live.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

fn show(rig: &Rig, nodes: &[ProgressBar], outside: &ProgressBar) {
    let all = rig.subject.addresses.len();
    for (node, line) in rig.cluster.nodes.iter().zip(nodes) {
        let addresses = |held| match held {
            0 => "holds no address".to_owned(),
            held => format!("holds {held} of {all} addresses"),
        };
        let services = |count| match count {
            0 => "runs no service".to_owned(),
            count => format!("runs {count} of {} services", ACTIVE.len()),
        };
        line.set_message(match (node.is_on(), rig.held(node), running(node)) {
            (false, _, _) => "no power".to_owned(),
            (true, Ok(held), Ok(count)) => format!("on, {}, {}", addresses(held), services(count)),
            (true, _, _) => "starting or stopping".to_owned(),
        });
    }
    let recently = Instant::now().checked_sub(rig.observer.interval() * 2).unwrap_or_else(Instant::now);
    let silent = rig.observer.silent(recently).len();
    outside.set_message(format!("{} of {all} addresses answer ping", all - silent));
}
