//! To stopped, from anything: with no list, no record, no cluster and no network, whatever is there goes.

use std::collections::HashSet;
use std::net::IpAddr;

use ocf::{Done, Run};

use crate::announcer;
use crate::drift::addresses;
use crate::list::List;
use crate::lower::lower;
use crate::parameters::Settings;
use crate::record::Record;

pub(crate) fn stop(run: &Run, settings: &Settings) -> Done {
    announcer::end(run);
    let count = lower(run, settings, &all_that_may_be_ours(run, settings))?;
    Record::remove(&run.store)?;
    run.log.info(&format!("{} were taken away", addresses(count)));
    run.cluster().promotion_score(None);
    run.cluster().forget();
    Ok(())
}

/// What the record says was added, and what the file lists, as far as either can be read.
pub(crate) fn all_that_may_be_ours(run: &Run, settings: &Settings) -> HashSet<IpAddr> {
    let mut ours = HashSet::new();
    match Record::read(&run.store) {
        Ok(Some(record)) => ours.extend(record.addresses.iter().map(|placed| placed.address)),
        Ok(None) => {}
        Err(error) => run.log.warning(&format!("{error:#}; going by the list alone")),
    }
    if settings.ip_file_is_wrong {
        return ours;
    }
    let list = List::read(&settings.ip_file);
    if let Some(fault) = &list.fault {
        run.log.warning(&format!("{fault}; going by the addresses that were added"));
    }
    ours.extend(list.entries.iter().map(|entry| entry.address));
    ours
}
