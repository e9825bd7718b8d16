//! The process that repeats announcements after the action that made them has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use ocf::{Deadline, Done, Failure, Run};

use crate::announce::{self, Form, Owned};
use crate::drift::links_of;
use crate::kernel::{Kernel, Link};
use crate::list::ListId;
use crate::parameters::Settings;
use crate::record::{Placed, Record, Role};

/// Held for as long as the process lives: who has it is the announcer.
const LOCK: &str = "announcer";
/// What is to be announced, in the form of a record.
const TASK: &str = "announce";
/// How long an announcer that was told to end may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// Begins to repeat the announcements of `added`, together with what an earlier announcer had not finished. The addresses
/// serve without it: what goes wrong is logged.
pub(crate) fn begin(run: &Run, added: &[Placed]) {
    let unfinished = Record::read_as(&run.store, TASK).ok().flatten().map(|task| task.addresses);
    end(run);
    let addresses: BTreeSet<Placed> = unfinished.into_iter().flatten().chain(added.iter().cloned()).collect();
    let addresses = addresses.into_iter().collect();
    let task = Record { role: Role::Active, list: ListId::default(), addresses };
    let begun = task.write_as(&run.store, TASK).map_err(Failure::from).and_then(|()| run.continue_in_background());
    if let Err(failure) = begun {
        run.log.warning(&format!("the addresses were announced once and will not be again: {failure}"));
    }
}

/// Ends the announcer, if there is one; after this no announcement leaves the node.
pub(crate) fn end(run: &Run) {
    let deadline = run.deadline.at_most(LAST_BREATH);
    let ended =
        run.store.remove(TASK).and_then(|()| run.store.seize(LOCK, run.action.name(), Duration::ZERO, deadline));
    if let Err(error) = ended {
        run.log.warning(&format!("announcements may go on for a while: {error:#}"));
    }
}

/// The announcer itself. It stops by itself when it is done, when its task is taken away, and when the instance is no
/// longer active; it announces only what the instance has at that moment.
pub(crate) fn announce_repeatedly(run: &Run, settings: &Settings) -> Done {
    // This process was made by an action that Pacemaker may kill with its group at any moment.
    nix::unistd::setsid().map_err(|error| Failure::generic(format!("cannot begin a session: {error}")))?;
    let _only_one = run.store.lock(LOCK, "announce", Deadline::after(LAST_BREATH))?;
    for round in 1..settings.announce_count {
        let _ = Deadline::after(settings.announce_interval).sleep(settings.announce_interval);
        let Some(task) = Record::read_as(&run.store, TASK)? else { return Ok(()) };
        let Some(record) = Record::read(&run.store)?.filter(|record| record.role == Role::Active) else {
            return Ok(());
        };
        let ours: BTreeSet<&Placed> = record.addresses.iter().collect();
        let still_ours: Vec<Placed> = task.addresses.into_iter().filter(|placed| ours.contains(placed)).collect();
        // Some routers learn from one form of gratuitous ARP only (RFC 5944, 4.6): both are sent in turn.
        let form = if round % 2 == 1 { Form::Reply } else { Form::Request };
        announce_evenly(settings, &still_ours, form)?;
    }
    Ok(run.store.remove(TASK)?)
}

/// One announcement of each, spread over the interval rather than sent at once.
fn announce_evenly(settings: &Settings, addresses: &[Placed], form: Form) -> Result<()> {
    let deadline = Deadline::after(settings.announce_interval * 2 + LAST_BREATH);
    let mut kernel = Kernel::open(deadline)?;
    let links = links_of(&mut kernel, addresses)?;
    let owned = addresses.iter().filter_map(|placed| {
        let link = links.get(&placed.interface).and_then(Option::as_ref)?;
        Some(Owned { address: placed.address, link: link.index })
    });
    let owned: Vec<Owned> = owned.collect();
    let links: Vec<Link> = links.into_values().flatten().collect();
    announce::announce(deadline, &owned, &links, form, even_rate(settings, owned.len()))?;
    Ok(())
}

/// Packets a second at which `count` packets fill the interval, within what the administrator allows.
fn even_rate(settings: &Settings, count: usize) -> u32 {
    let millis = settings.announce_interval.as_millis().max(1);
    let even = (count as u128 * 1000).div_ceil(millis);
    u32::try_from(even).unwrap_or(u32::MAX).clamp(1, settings.announce_rate)
}
