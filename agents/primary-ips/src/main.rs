//! `ocf:greenarrow:primary-ips`: the addresses of /etc/hvmail_primary_ips as one cluster resource.
//!
//! One way through: the file (`list`) and the kernel (`kernel`) are read, each address is given its interface
//! (`placement`), what is there is compared with what should be (`drift`), and what follows from that is decided without
//! touching anything (`judgement`). The deeds are `raise` and `lower`; `settle` does both and keeps the `record`.

use std::process::ExitCode;

use ocf::{About, Agent, Done, Found, Run, Values};

mod announce;
mod announcer;
mod connections;
mod demote;
mod drift;
mod duplicate;
mod frame;
mod ip_file;
mod judgement;
mod kernel;
mod list;
mod lower;
mod monitor;
#[cfg(test)]
mod netns;
mod packet_socket;
mod parameters;
mod peers;
mod placement;
mod promote;
mod raise;
mod record;
mod reload;
mod reserved;
mod settle;
mod start;
mod stop;
mod validate;

use parameters::Settings;

struct PrimaryIps {
    settings: Settings,
}

impl Agent for PrimaryIps {
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
        if level < 10 { Ok(()) } else { validate::validate(run, &self.settings).map(drop) }
    }

    fn background(&self, run: &Run) -> Done {
        announcer::announce_repeatedly(run, &self.settings)
    }
}

fn main() -> ExitCode {
    ocf::main::<PrimaryIps>()
}
