//! From promoted to unpromoted: every address goes, and is proved to be gone.

use ocf::{Done, Run};

use crate::announcer;
use crate::drift::addresses;
use crate::lower::lower;
use crate::parameters::Settings;
use crate::record::Record;
use crate::stop::all_that_may_be_ours;

pub(crate) fn demote(run: &Run, settings: &Settings) -> Done {
    announcer::end(run);
    let count = lower(run, settings, &all_that_may_be_ours(run, settings))?;
    // An instance that was never started is not unpromoted by this, but stopped still.
    if !matches!(Record::read(&run.store), Ok(None)) {
        Record::unpromoted().write(&run.store)?;
    }
    run.log.info(&format!("{} were taken away", addresses(count)));
    Ok(())
}
