//! `ocf:greenarrow:services`: GreenArrow's daemontools services as one cluster resource.
//!
//! What is on disk and in /proc is read (`supervise`, `scan`, `processes`), and what follows from that is decided without
//! touching anything (`judgement`). The deeds are `raise` and `lower`; the `record` is what the actions tell each other.

use std::process::ExitCode;

use ocf::{About, Agent, Done, Found, Run, Values};

mod demote;
mod escalation;
mod greenarrow;
mod guard;
mod judgement;
mod lower;
mod monitor;
mod multilog;
mod parameters;
mod pattern;
mod ports;
mod processes;
mod promote;
mod raise;
mod record;
mod reload;
mod scan;
mod start;
mod stop;
mod supervise;
mod survey;
mod svscan;
mod target;
mod texts;
mod validate;

use parameters::Settings;

struct Services {
    settings: Settings,
}

impl Agent for Services {
    const ABOUT: About = parameters::ABOUT;

    fn configure(values: &Values) -> Self {
        Self { settings: Settings::read(values) }
    }

    fn start(&self, run: &Run) -> Done {
        start::start(run, &self.settings)
    }

    fn stop(&self, run: &Run) -> Done {
        stop::stop(run, &self.settings)
    }

    fn monitor(&self, run: &Run) -> Found {
        monitor::monitor(run, &self.settings)
    }

    fn promote(&self, run: &Run) -> Done {
        promote::promote(run, &self.settings)
    }

    fn demote(&self, run: &Run) -> Done {
        demote::demote(run, &self.settings)
    }

    fn reload(&self, run: &Run) -> Done {
        reload::reload(run, &self.settings)
    }

    fn validate(&self, run: &Run, level: u32) -> Done {
        if level < 10 { Ok(()) } else { validate::validate(run, &self.settings) }
    }
}

fn main() -> ExitCode {
    ocf::main::<Services>()
}
