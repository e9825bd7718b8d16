//! To stopped, from anything: with no record, no scan directory, no cluster and no program of GreenArrow's, whatever runs
//! is ended.

use ocf::{Done, Run};

use crate::guard;
use crate::lower::lower;
use crate::parameters::Settings;
use crate::record::Record;
use crate::scan::services;

pub(crate) fn stop(run: &Run, settings: &Settings) -> Done {
    // First, so that nothing that a supervise or svscan brings back starts while the rest is being ended.
    if let Err(error) = guard::settle(run, settings) {
        run.log.warning(&format!("{error:#}"));
    }
    let count = lower(run, settings, readable_record(run).as_ref())?;
    Record::remove(&run.store)?;
    run.log.info(&format!("ended: {}", services(count)));
    run.cluster().promotion_score(None);
    run.cluster().forget();
    Ok(())
}

/// The record, as far as it can be read: what comes down goes by the scan directory as well.
pub(crate) fn readable_record(run: &Run) -> Option<Record> {
    Record::read(&run.store).unwrap_or_else(|error| {
        run.log.warning(&format!("{error:#}; going by the scan directory alone"));
        None
    })
}
