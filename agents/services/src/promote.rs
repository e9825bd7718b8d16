//! From unpromoted to promoted: the services come up in their order and settle.

use ocf::{Done, Lapse, NEVER, Run};

use crate::parameters::Settings;
use crate::raise::raise;
use crate::record::Record;
use crate::scan::services;

pub(crate) fn promote(run: &Run, settings: &Settings) -> Done {
    let done = activate(run, settings);
    if done.is_err() {
        Lapse::Promotion.note(run);
        run.cluster().promotion_score(Some(NEVER));
    }
    done
}

/// What promote does, and start of a plain resource.
pub(crate) fn activate(run: &Run, settings: &Settings) -> Done {
    let before = Record::read(&run.store)?;
    let count = raise(run, settings, before.as_ref())?;
    run.log.info(&format!("up: {} of {}", services(count), settings.service_dir.display()));
    Ok(())
}
