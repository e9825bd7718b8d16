//! From Primary to Secondary, or who stands in the way.

use std::time::Duration;

use ocf::{Done, Failure, Run};

use crate::apart;
use crate::holders::Holders;
use crate::kernel::{self, Refusal, Seen};
use crate::model::Resource;
use crate::parameters::Settings;

/// Between two tries: what was stopped just before may still be closing its files.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// What is left of the action for saying what stands in the way.
const LAST_WORDS: Duration = Duration::from_millis(1500);

pub(crate) fn demote(run: &Run, settings: &Settings) -> Done {
    let seen = make_secondary(run, settings)?;
    // Until the next monitor the other node would believe that there are two Primaries.
    apart::say_again(run, settings, &seen);
    Ok(())
}

/// Tries until it is Secondary or the time is over.
pub(crate) fn make_secondary(run: &Run, settings: &Settings) -> Result<Seen, Failure> {
    let deadline = run.deadline.at_most(run.deadline.remaining().saturating_sub(LAST_WORDS));
    let mut told: Option<(Seen, Refusal)> = None;
    loop {
        let looked = kernel::look_patiently(run, &settings.name, deadline).map_err(|failure| {
            // Nor does a look that it cut short.
            told.as_ref().map_or(failure, |(seen, refusal)| Failure::generic(in_the_way(settings, seen, refusal)))
        });
        let Some(seen) = looked?.filter(|seen| seen.resource.is_some()) else {
            return Err(Failure::generic(format!("{} is down, so that there is nothing to demote", settings.name)));
        };
        if !seen.primary() {
            return Ok(seen);
        }
        if let Some(resource) = &seen.resource {
            apart::keep_what_is_served(run, resource);
        }
        let Err(refusal) = kernel::change_role(&seen, &settings.name, "secondary", deadline) else { continue };
        // A try that the deadline cut short says nothing of DRBD's reason; the one before it may.
        let before = told.map(|(_, refusal)| refusal);
        let last = before.clone().filter(|_| refusal.code.is_none()).unwrap_or(refusal);
        if before.as_ref() != Some(&last) {
            run.log.warning(&format!("{} is Primary still: {last}", settings.name));
        }
        if !deadline.sleep(TRY_AGAIN) {
            return Err(Failure::generic(in_the_way(settings, &seen, &last)));
        }
        told = Some((seen, last));
    }
}

fn in_the_way(settings: &Settings, seen: &Seen, refusal: &Refusal) -> String {
    let resource = seen.resource.as_ref();
    let minors = resource.map(Resource::minors).unwrap_or_default();
    let suspended = resource.map(|resource| resource.suspended.join(", ")).filter(|why| !why.is_empty());
    let suspended = suspended.map_or(String::new(), |why| format!("; its I/O is suspended ({why})"));
    format!("{} stays Primary: {refusal}; {}{suspended}", settings.name, Holders::find(&minors))
}
