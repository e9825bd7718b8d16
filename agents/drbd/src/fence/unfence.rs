//! unfence-peer, after-resync-target: the peers' data may be good again.

use anyhow::{Result, bail};
use ocf::{Deadline, Log};

use crate::change::{Change, apply};
use crate::cib::{Cib, Constraint};
use crate::disks::Disks;
use crate::fence::{same, wanted};
use crate::options::Options;

pub(crate) fn unfence(options: &Options, log: &Log) -> Result<()> {
    let cib = Cib::local(Deadline::after(options.dc_timeout))?;
    let wanted = wanted(options, &cib)?;
    let Some(there) = cib.constraints.get(&wanted.id) else { return Ok(()) };
    if another_nodes(options, there, &cib) {
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

/// Whether it is to stay because another node has placed it (--unfence-only-if-owner-match): it rejects this one.
fn another_nodes(options: &Options, there: &Constraint, cib: &Cib) -> bool {
    options.only_if_owner && there.rejects(&options.own, cib)
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
        if another_nodes(options, there, &cib) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cib::tests::CIB;

    #[test]
    fn the_constraint_of_another_node_stays_where_that_is_asked_for() {
        let cib = Cib::parse(CIB).unwrap();
        let there = &cib.constraints["drbd-fence-by-handler-r0-mail-clone"];
        for (own, asked, stays) in [("n1", true, false), ("n2", true, true), ("n1", false, false), ("n2", false, false)]
        {
            let environment = |name: &str| (name == "DRBD_RESOURCE").then(|| "r0".to_owned());
            let mut options = Options::read(["unfence".to_owned()].into_iter(), &environment).unwrap().unwrap();
            own.clone_into(&mut options.own);
            options.only_if_owner = asked;
            assert_eq!(another_nodes(&options, there, &cib), stays, "{own}, {asked}");
        }
    }
}
