//! From unpromoted to promoted: every address comes up, or none.

use ocf::{Done, Lapse, NEVER, Run};

use crate::drift::addresses;
use crate::kernel::Kernel;
use crate::parameters::Settings;
use crate::record::Record;
use crate::settle::settle;
use crate::validate::wanted;

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
    let mut kernel = Kernel::open(run.deadline)?;
    let before = Record::read(&run.store)?;
    let wanted = wanted(run, settings, &mut kernel, before.as_ref())?;
    let count = wanted.addresses.len();
    let settled = settle(run, settings, &mut kernel, before.as_ref(), &wanted)?;
    run.log.info(&format!("{} are up: {settled}", addresses(count)));
    Ok(())
}
