//! Whether this node could have the addresses.

use ocf::{Action, Failure, Kind, Run};

use crate::drift::{Links, links_of, some};
use crate::kernel::Kernel;
use crate::list::List;
use crate::parameters::Settings;
use crate::placement::place;
use crate::record::{Placed, Record, Role};

/// Checks the file and the interfaces it needs, and gives back the latter.
pub(crate) fn validate(run: &Run, settings: &Settings) -> Result<Links, Failure> {
    let mut kernel = Kernel::open(run.deadline)?;
    let placed = wanted(run, settings, &mut kernel, None)?.addresses;
    let links = links_of(&mut kernel, &placed)?;
    missing_links(&placed, &links).map_or(Ok(links), |reason| Err(Failure::generic(reason)))
}

/// The record of an active instance: the file's addresses on their interfaces; or what is wrong with the file. A file is one node's: its faults keep the
/// resource from this node (OCF 1.1, OCF_ERR_ARGS), not from the others.
pub(crate) fn wanted(
    run: &Run,
    settings: &Settings,
    kernel: &mut Kernel,
    before: Option<&Record>,
) -> Result<Record, Failure> {
    let list = List::read(&settings.ip_file);
    let remedy = || match run.action {
        Action::ValidateAll => String::new(),
        _ => format!("; mend it, then: crm_resource --cleanup --resource {}", run.environment.resource()),
    };
    if let Some(fault) = list.fault {
        list.unnamed.iter().for_each(|wrong| run.log.error(wrong));
        return Err(Failure::new(Kind::Arguments, fault + &remedy()));
    }
    let present = kernel.addresses()?;
    let placed = place(kernel, &list.entries, &present, settings.nic.as_deref(), before)?;
    match placed {
        Ok(addresses) => Ok(Record { role: Role::Active, list: list.id, addresses }),
        Err(reason) => {
            let reason = format!("{}: {reason}{}", settings.ip_file.display(), remedy());
            Err(Failure::new(Kind::Arguments, reason))
        }
    }
}

/// The interfaces that this node does not have, if any are needed. `links` are those that `placed` names.
pub(crate) fn missing_links(placed: &[Placed], links: &Links) -> Option<String> {
    if links.values().all(Option::is_some) {
        return None;
    }
    let homeless: Vec<_> =
        placed.iter().filter(|placed| links.get(&placed.interface).is_none_or(Option::is_none)).collect();
    (!homeless.is_empty()).then(|| format!("this node does not have the interface of {}", some(&homeless)))
}
