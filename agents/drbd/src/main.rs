//! `ocf:greenarrow:drbd`: the role of a DRBD resource, and what is wrong with it.
//!
//! What the kernel module says is read (`kernel`, `events`, `proc_drbd`) into the module's own words (`model`), and what follows
//! from that is decided without touching anything (`judgement`, `score`, `generation`). drbd.conf is read by drbdadm alone
//! (`configuration`), and only to bring the resource up; to look, to demote and to stop nobody needs it.

use std::process::ExitCode;

use ocf::{About, Agent, Done, Found, Notification, Run, Values};

mod apart;
mod configuration;
mod demote;
mod dump_xml;
mod events;
mod generation;
mod holders;
mod judgement;
mod kernel;
mod model;
mod module;
mod monitor;
mod notify;
mod parameters;
mod proc_drbd;
mod promote;
mod reload;
mod score;
mod start;
mod stop;
mod texts;
mod unfence;
mod validate;

use parameters::Settings;

struct Drbd {
    settings: Settings,
}

impl Agent for Drbd {
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

    fn notify(&self, run: &Run, notification: &Notification) {
        notify::notify(run, &self.settings, notification);
    }

    fn reload(&self, run: &Run) -> Done {
        reload::reload(run, &self.settings);
        Ok(())
    }

    fn validate(&self, run: &Run, level: u32) -> Done {
        if level < 10 { Ok(()) } else { validate::validate(run, &self.settings) }
    }
}

fn main() -> ExitCode {
    ocf::main::<Drbd>()
}
