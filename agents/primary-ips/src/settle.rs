//! From the addresses an instance has to those it should have, with the record always a step ahead.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use ocf::Run;

use crate::announcer;
use crate::drift::addresses;
use crate::kernel::Kernel;
use crate::list::ListId;
use crate::lower::lower;
use crate::parameters::Settings;
use crate::raise::{NotRaised, raise};
use crate::record::{Record, Role};

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    added: usize,
    removed: usize,
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.added, self.removed) {
            (0, 0) => f.write_str("nothing had to be changed"),
            (added, 0) => write!(f, "{} added", addresses(added)),
            (0, removed) => write!(f, "{} taken away", addresses(removed)),
            (added, removed) => write!(f, "{} added, {removed} taken away", addresses(added)),
        }
    }
}

/// Makes `wanted` the record of an instance that had `before`, and the kernel the same. What is in both is not touched.
/// After an error the addresses of `before` are as they were, save what the error names.
pub(crate) fn settle(
    run: &Run,
    settings: &Settings,
    kernel: &mut Kernel,
    before: Option<&Record>,
    wanted: &Record,
) -> Result<Settled, NotRaised> {
    let had = before.map(|record| record.addresses.as_slice()).unwrap_or_default();
    let staying: HashSet<IpAddr> = wanted.addresses.iter().map(|placed| placed.address).collect();
    let leaving: HashSet<IpAddr> = had.iter().map(|placed| placed.address).filter(|a| !staying.contains(a)).collect();
    let left = had.iter().filter(|placed| leaving.contains(&placed.address));
    let either = wanted.addresses.iter().chain(left).cloned().collect();
    Record { role: Role::Active, list: ListId::default(), addresses: either }.write(&run.store)?;
    let added = match raise(run, settings, kernel, &wanted.addresses) {
        Ok(added) => added,
        Err(error) => {
            // Without a record before, the instance was stopped and has not been started by this.
            match before {
                Some(before) => before.write(&run.store)?,
                None => Record::remove(&run.store)?,
            }
            return Err(error);
        }
    };
    let removed = if leaving.is_empty() { 0 } else { lower(run, settings, &leaving)? };
    wanted.write(&run.store)?;
    if !added.is_empty() && settings.announce_count > 1 {
        announcer::begin(run, &added);
    }
    Ok(Settled { added: added.len(), removed })
}
