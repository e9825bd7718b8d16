//! `ocf:greenarrow:postgresql`: a PostgreSQL primary and its standbys as a promotable clone.
//!
//! One way through: the data directory (`installation`, `control`), the processes (`postmaster`) and the server's own word
//! (`contact`, `session`, `server`) make a `survey`; what follows from it is decided without touching anything (`judgement`,
//! `election`, `position`). The deeds are `launch`, `stop`, `promote`, `rejoin` and `upkeep`.

use std::process::ExitCode;

use ocf::{About, Action, Agent, Done, Found, Notification, Run, Values};

mod about;
mod aside;
mod base_backup;
mod configuration;
mod contact;
mod control;
mod demote;
mod election;
mod half_record;
mod hosts;
mod inquiry;
mod installation;
mod judgement;
mod lacking;
mod launch;
mod mark;
mod monitor;
mod notify;
mod parameters;
mod peers;
mod permission;
mod position;
mod postmaster;
mod promote;
mod record;
mod rejoin;
mod server;
mod session;
mod start;
mod stop;
mod supervise;
mod survey;
mod upkeep;
mod validate;
mod wal;

use parameters::Settings;

struct Postgresql {
    settings: Settings,
}

impl Agent for Postgresql {
    const ABOUT: About = about::ABOUT;

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
        if let Some(wrong) = &self.settings.wrong {
            run.log.error(&format!("{wrong}; nothing was changed"));
            return Ok(());
        }
        match upkeep::reload(run, &self.settings) {
            // After a failed reload-agent Pacemaker would restart the server, for a setting.
            Err(error) if run.action == Action::ReloadAgent => {
                run.log.error(&format!("{error:#}; nothing was changed"));
                Ok(())
            }
            done => Ok(done?),
        }
    }

    fn validate(&self, run: &Run, level: u32) -> Done {
        if level < 10 {
            validate::validate_parameters(&self.settings)
        } else {
            validate::validate(run, &self.settings).map(drop)
        }
    }

    fn background(&self, run: &Run) -> Done {
        promote::settle(run, &self.settings)?;
        base_backup::discard(run, &self.settings)
    }
}

fn main() -> ExitCode {
    ocf::main::<Postgresql>()
}
