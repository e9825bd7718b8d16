//! From stopped to unpromoted, or as a plain resource to active.

use std::collections::HashSet;
use std::net::IpAddr;

use ocf::{Done, Run};

use crate::drift::addresses;
use crate::kernel::Kernel;
use crate::list::List;
use crate::lower::lower;
use crate::monitor;
use crate::parameters::Settings;
use crate::promote;
use crate::record::Record;
use crate::validate::validate;

pub(crate) fn start(run: &Run, settings: &Settings) -> Done {
    if !run.environment.promotable() {
        return promote::activate(run, settings);
    }
    if Record::read(&run.store)?.is_some() {
        run.log.info("started already");
        return Ok(());
    }
    let links = validate(run, settings)?;
    leave_none_behind(run, settings)?;
    Record::unpromoted().write(&run.store)?;
    // Without a score Pacemaker promotes nobody, and with this one nobody waits for the first monitor.
    run.cluster().promotion_score(Some(monitor::first_score(run, &links)));
    Ok(())
}

/// An unpromoted instance has no address. Pacemaker stops what a probe found before it starts anything; what is there
/// nevertheless was added by hand.
fn leave_none_behind(run: &Run, settings: &Settings) -> Done {
    let listed: HashSet<IpAddr> = List::read(&settings.ip_file).entries.iter().map(|entry| entry.address).collect();
    let up = Kernel::open(run.deadline)?.addresses()?.iter().any(|present| listed.contains(&present.address));
    if up {
        let count = lower(run, settings, &listed)?;
        run.log.warning(&format!("{} were up before the start and have been taken away", addresses(count)));
    }
    Ok(())
}
