//! A changed file or changed parameters taken up, without touching an address that stays.

use ocf::{Action, Done, Run};

use crate::parameters::Settings;
use crate::promote;
use crate::record::{Record, Role};
use crate::validate::validate;

pub(crate) fn reload(run: &Run, settings: &Settings) -> Done {
    if let Some(wrong) = &settings.wrong {
        run.log.error(&format!("{wrong}; nothing was changed"));
        return Ok(());
    }
    let done = match Record::read(&run.store)?.map(|record| record.role) {
        None => {
            run.log.info("not started; there is nothing to reload");
            Ok(())
        }
        Some(Role::Unpromoted) => validate(run, settings).map(drop),
        Some(Role::Active) => promote::activate(run, settings),
    };
    match done {
        // After a failed reload-agent Pacemaker would restart the resource: an outage for a mistake in a file that has
        // changed nothing. The next monitor reports it as degraded.
        Err(failure) if run.action == Action::ReloadAgent => {
            run.log.error(&format!("{failure}; nothing was changed"));
            Ok(())
        }
        done => done,
    }
}
