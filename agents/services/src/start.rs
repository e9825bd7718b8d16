//! From stopped to unpromoted, or as a plain resource to active.

use ocf::{Done, Failure, Lapse, Run};

use crate::guard;
use crate::lower::lower;
use crate::monitor::READY;
use crate::parameters::Settings;
use crate::promote;
use crate::record::Record;
use crate::scan::{Fault, Scan, services};
use crate::svscan::{self, StartSvscan};

pub(crate) fn start(run: &Run, settings: &Settings) -> Done {
    if !run.environment.promotable() {
        return promote::activate(run, settings);
    }
    if Record::read(&run.store)?.is_some() {
        run.log.info("started already");
        return Ok(());
    }
    // Where the directories move with the Primary's file system there are none here, and that is no fault.
    if let Some(Fault::Broken(fault)) = Scan::take(settings).fault {
        return Err(Failure::not_installed(fault));
    }
    // Before anything is ended: what a supervise or svscan that comes back would start stays down then.
    guard::settle(run, settings)?;
    let count = lower(run, settings, None)?;
    if count > 0 {
        run.log.warning(&format!("{} ran before the start and had to be ended", services(count)));
    }
    let mut record = Record::unpromoted();
    // Without the guard svscan would start the services as well.
    if settings.boot_guard && settings.svscan != StartSvscan::No {
        let svscan = svscan::ensure(run, settings)?;
        record.svscan = Some((svscan.pid, svscan.started));
    }
    record.write(&run.store)?;
    // Without a score Pacemaker promotes nobody, and with this one nobody waits for the first monitor.
    run.cluster().promotion_score(Some(Lapse::reduced(run, READY)));
    Ok(())
}
