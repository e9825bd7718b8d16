//! Addresses taken away, and the proof that they are gone.

use std::collections::HashSet;
use std::net::IpAddr;

use anyhow::{Result, bail};
use ocf::Run;

use crate::connections;
use crate::drift::{SHOWN, and_more};
use crate::kernel::{Kernel, OldAddress, Present, removed};
use crate::parameters::Settings;

/// An address that is there again after so many removals is put there by somebody else.
const ROUNDS: usize = 3;

/// Takes `doomed` away on every link and with every prefix length, and gives back how many there were.
///
/// # Errors
/// Some are left: which, and what the kernel said.
pub(crate) fn lower(run: &Run, settings: &Settings, doomed: &HashSet<IpAddr>) -> Result<usize> {
    let mut count = 0;
    let mut words = String::new();
    for round in 1.. {
        let mut kernel = Kernel::open(run.deadline)?;
        let present = kernel.addresses()?;
        let found: Vec<OldAddress> = there(&present, doomed).map(Into::into).collect();
        run.log.step(&format!("{} of {} addresses are there", found.len(), doomed.len()));
        if found.is_empty() {
            return Ok(count);
        }
        if round > ROUNDS {
            bail!("{} cannot be taken away: {words}", described(&mut kernel, &found)?);
        }
        if round == 1 && settings.kill_connections {
            kill_connections(run, &found);
        }
        let answers = kernel.withdraw(&present, &found)?;
        count += answers.iter().filter(|answer| removed(answer)).count();
        let refused = answers.iter().find_map(|answer| answer.as_ref().err().filter(|_| !removed(answer)));
        words = refused.map_or("something adds them again as soon as they are removed".to_owned(), ToString::to_string);
    }
    unreachable!("the rounds end with one of the returns above")
}

/// Those of `present` whose address is in `addresses`.
pub(crate) fn there<'a>(present: &'a [Present], addresses: &'a HashSet<IpAddr>) -> impl Iterator<Item = &'a Present> {
    present.iter().filter(|present| addresses.contains(&present.address))
}

/// `192.0.2.1/24 on eth0, …`, for a sentence.
pub(crate) fn described(kernel: &mut Kernel, found: &[OldAddress]) -> Result<String> {
    let mut words = Vec::new();
    for OldAddress { address, prefix, link, .. } in found.iter().take(SHOWN) {
        let name = kernel.link(*link)?.map_or_else(|| format!("link {link}"), |link| link.name);
        words.push(format!("{address}/{prefix} on {name}"));
    }
    Ok(and_more(&words, found.len()))
}

/// While the address is still there, so that the reset has a source to come from.
fn kill_connections(run: &Run, found: &[OldAddress]) {
    let addresses: Vec<IpAddr> = found.iter().map(|old| old.address).collect();
    match connections::kill(run.deadline, &addresses) {
        Ok(0) => {}
        Ok(count) => run.log.info(&format!("{count} TCP connections were reset")),
        Err(error) => run.log.warning(&format!("TCP connections could not be reset: {error:#}")),
    }
}
