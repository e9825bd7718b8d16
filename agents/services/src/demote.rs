//! From promoted to unpromoted: every service is ended, and proved to be gone.

use ocf::{Done, Run};

use crate::guard;
use crate::lower::lower;
use crate::parameters::Settings;
use crate::record::Record;
use crate::scan::services;
use crate::stop::readable_record;

pub(crate) fn demote(run: &Run, settings: &Settings) -> Done {
    if let Err(error) = guard::settle(run, settings) {
        run.log.warning(&format!("{error:#}"));
    }
    let before = readable_record(run);
    let count = lower(run, settings, before.as_ref())?;
    // An instance that was never started is not unpromoted by this, but stopped still.
    if !matches!(Record::read(&run.store), Ok(None)) {
        let svscan = before.and_then(|before| before.svscan);
        Record { svscan, ..Record::unpromoted() }.write(&run.store)?;
    }
    run.log.info(&format!("ended: {}", services(count)));
    Ok(())
}
