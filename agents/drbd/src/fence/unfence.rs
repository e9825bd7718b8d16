//! unfence-peer, after-resync-target: the peers' data may be good again.

use anyhow::{Result, bail};
use ocf::{Deadline, Log};

use crate::change::{Change, apply};
use crate::cib::Cib;
use crate::disks::Disks;
use crate::fence::{same, wanted};
use crate::options::Options;

pub(crate) fn unfence(options: &Options, log: &Log) -> Result<()> {
    let cib = Cib::local(Deadline::after(options.dc_timeout))?;
    let wanted = wanted(options, &cib)?;
    let Some(there) = cib.constraints.get(&wanted.id) else { return Ok(()) };
    if options.only_if_owner && there.rejects(&options.own, &cib) {
        log.warning(&format!("the constraint {} is not of this node's placing; it stays", wanted.id));
        return Ok(());
    }
    let disks = Disks::look(options)?;
    if disks.all_up_to_date && disks.peers_up_to_date {
        return take_away(options, log);
    }
    // With 8.4 there is one peer: as long as something is not good, nothing changes. 9 says who is good by now.
    if options.up_to_date.is_none() || same(there, &wanted) {
        log.info(&format!("not all data is good yet; the constraint {} stays", wanted.id));
        return Ok(());
    }
    change(options, log, Lift::ForTheGood)
}

/// Takes the constraint away.
pub(crate) fn take_away(options: &Options, log: &Log) -> Result<()> {
    change(options, log, Lift::ForAll)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lift {
    ForAll,
    /// The nodes that DRBD 9 says have good data.
    ForTheGood,
}

fn change(options: &Options, log: &Log, lift: Lift) -> Result<()> {
    let deadline = Deadline::after(options.dc_timeout);
    loop {
        let cib = Cib::of_the_cluster(deadline)?;
        let wanted = wanted(options, &cib)?;
        let id = wanted.id.clone();
        let Some(there) = cib.constraints.get(&id) else { return Ok(()) };
        if options.only_if_owner && there.rejects(&options.own, &cib) {
            log.warning(&format!("the constraint {id} was replaced meanwhile by one that rejects this node; it stays"));
            return Ok(());
        }
        let next = (lift == Lift::ForTheGood).then_some(wanted);
        match apply(&cib, &id, next.as_ref(), deadline)? {
            Change::Made => {
                log.info(&format!("constraint {id} {}", if next.is_some() { "lifted in part" } else { "removed" }));
                return Ok(());
            }
            Change::Overtaken if deadline.passed() => bail!("the cluster changes faster than {id} can be removed"),
            Change::Overtaken => {}
        }
    }
}
