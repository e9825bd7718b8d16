//! Addresses brought up: asked about, added, confirmed and announced, all of them together.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use ocf::{Failure, Run};

use crate::announce::{self, Form, Owned};
use crate::drift::{Drift, Links, links_of, some};
use crate::duplicate::{self, Probe};
use crate::kernel::{AddressEvents, Kernel, Lifetime, Link, NewAddress, OldAddress, added};
use crate::lower::described;
use crate::parameters::{DuplicateCheck, Settings};
use crate::record::Placed;

/// So much of an action's time is kept for taking the addresses away again, should duplicate address detection not end.
const TIME_TO_RETREAT: Duration = Duration::from_secs(5);

/// Why addresses were not brought up.
#[derive(Debug)]
pub(crate) enum NotRaised {
    /// Another host has some of them; none was added.
    Taken(String),
    /// Anything else.
    Failed(Failure),
}

impl From<anyhow::Error> for NotRaised {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<NotRaised> for Failure {
    fn from(error: NotRaised) -> Self {
        match error {
            NotRaised::Taken(reason) => Self::generic(reason),
            NotRaised::Failed(failure) => failure,
        }
    }
}

/// Brings the kernel to `wanted`: adds what is missing, and moves what is astray. Gives back what was added; what was
/// there already is not touched. After an error none of what was missing is there.
pub(crate) fn raise(
    run: &Run,
    settings: &Settings,
    kernel: &mut Kernel,
    wanted: &[Placed],
) -> Result<Vec<Placed>, NotRaised> {
    let links = links_of(kernel, wanted)?;
    let present = kernel.addresses()?;
    let drift = Drift::between(wanted, &present, &links);
    if drift.is_none() {
        return Ok(Vec::new());
    }
    let new = new_addresses(settings, &drift.missing, &links).map_err(NotRaised::Failed)?;
    if settings.duplicate_check != DuplicateCheck::Off {
        ask_for_others(run, settings, &new, &links)?;
    }
    if !drift.astray.is_empty() {
        run.log.info(&format!("taking away what is not where it belongs: {}", described(kernel, &drift.astray)?));
        kernel.withdraw(&present, &drift.astray)?;
    }
    let brought_up = add_and_announce(run, settings, kernel, &new, &links);
    if brought_up.is_err() {
        // The caller's own stop or demote takes away what this leaves.
        let present = kernel.addresses()?;
        let half_done: Vec<OldAddress> = new.iter().map(as_old).collect();
        kernel.withdraw(&present, &half_done)?;
    }
    brought_up.map(|()| drift.missing)
}

fn new_addresses(settings: &Settings, missing: &[Placed], links: &Links) -> Result<Vec<NewAddress>, Failure> {
    let mut new = Vec::with_capacity(missing.len());
    for Placed { address, prefix, interface } in missing {
        let link = links.get(interface).and_then(Option::as_ref);
        let link = link.ok_or_else(|| {
            Failure::generic(format!("{address} belongs on interface {interface}, which this node does not have"))
        })?;
        if !link.up {
            let reason =
                format!("{address} belongs on interface {interface}, which is down: ip link set {interface} up");
            return Err(Failure::generic(reason));
        }
        new.push(NewAddress {
            address: *address,
            prefix: *prefix,
            link: link.index,
            no_prefix_route: settings.no_prefix_route,
            // The kernel would mark IPv4 addresses deprecated as well, which changes nothing but what ip(8) shows.
            preferred: settings
                .preferred_lifetime
                .filter(|_| address.is_ipv6())
                .map_or(Lifetime::Forever, Lifetime::Seconds),
            no_dad: settings.duplicate_check == DuplicateCheck::Off,
        });
    }
    // IPv4 first: IPv6 addresses are of use only when the kernel has made sure that nobody else has them.
    new.sort_by_key(|new| new.address.is_ipv6());
    Ok(new)
}

fn ask_for_others(run: &Run, settings: &Settings, new: &[NewAddress], links: &Links) -> Result<(), NotRaised> {
    let probes: Vec<Probe> = new.iter().map(|new| Probe { address: new.address, link: new.link }).collect();
    match others(run, &probes, links) {
        Ok(None) => Ok(()),
        Ok(Some(found)) if settings.duplicate_check == DuplicateCheck::Warn => {
            run.log.warning(&format!("{found}; duplicate_check=warn: the addresses are added all the same"));
            Ok(())
        }
        Ok(Some(found)) => {
            Err(NotRaised::Taken(format!("{found}; no address is added. Find that host and take the address from it")))
        }
        Err(error) => Err(error.context("other owners of the addresses could not be looked for").into()),
    }
}

/// A sentence about the hosts that have one of these addresses too, if there are any.
pub(crate) fn others(run: &Run, probes: &[Probe], links: &Links) -> anyhow::Result<Option<String>> {
    let known: Vec<Link> = links.values().flatten().cloned().collect();
    let found = duplicate::who_else(run.deadline, probes, &known)?;
    run.log.step(&format!("{} addresses asked about, {} duplicates", probes.len(), found.len()));
    let words: Vec<_> = found.iter().map(|duplicate| duplicate.describe(&known)).collect();
    Ok((!words.is_empty()).then(|| some(&words)))
}

fn add_and_announce(
    run: &Run,
    settings: &Settings,
    kernel: &mut Kernel,
    new: &[NewAddress],
    links: &Links,
) -> Result<(), NotRaised> {
    let confirmed_by_kernel: Vec<(Ipv6Addr, u32)> = new.iter().filter_map(|new| awaited(new, links)).collect();
    let events = if confirmed_by_kernel.is_empty() { None } else { Some(kernel.watch_ipv6()?) };
    let answers = kernel.add(new)?;
    let refused: Vec<_> = new.iter().zip(&answers).filter(|(_, answer)| !added(answer)).collect();
    if let Some((first, Err(refusal))) = refused.first() {
        return Err(NotRaised::Failed(Failure::generic(format!(
            "the kernel refused {} of {} addresses, the first of them {}/{}: {refusal}",
            refused.len(),
            new.len(),
            first.address,
            first.prefix
        ))));
    }
    run.log.step(&format!("{} addresses added", new.len()));
    let usable_at_once = |new: &&NewAddress| new.address.is_ipv4() || events.is_none();
    announce_first(run, settings, new.iter().filter(usable_at_once), links)?;
    if let Some(mut events) = events {
        confirm(run, settings, kernel, &mut events, &confirmed_by_kernel)?;
        announce_first(run, settings, new.iter().filter(|new| new.address.is_ipv6()), links)?;
    }
    Ok(())
}

/// An address that duplicate address detection will run for: on a link without a carrier it does not begin
/// (`addrconf_dad_begin`, net/ipv6/addrconf.c), and there is nobody to hear of it.
fn awaited(new: &NewAddress, links: &Links) -> Option<(Ipv6Addr, u32)> {
    let link = links.values().flatten().find(|link| link.index == new.link)?;
    match new.address {
        IpAddr::V6(address) if !new.no_dad && link.carrier => Some((address, new.link)),
        _ => None,
    }
}

fn confirm(
    run: &Run,
    settings: &Settings,
    kernel: &mut Kernel,
    events: &mut AddressEvents,
    addresses: &[(Ipv6Addr, u32)],
) -> Result<(), NotRaised> {
    let remaining = run.deadline.remaining();
    let patience = run.deadline.at_most(remaining.saturating_sub(TIME_TO_RETREAT.min(remaining / 4)));
    let report = kernel.wait_for_dad(events, addresses, patience)?;
    run.log.step(&format!("duplicate address detection of {} addresses ended", addresses.len()));
    let named = |list: &[(Ipv6Addr, u32)]| some(&list.iter().map(|(address, _)| *address).collect::<Vec<_>>());
    if !report.unfinished.is_empty() {
        let which = named(&report.unfinished);
        let reason = format!(
            "duplicate address detection of {which} did not end within {:.1?}; give the action more time, or set \
             duplicate_check=off",
            patience.budget()
        );
        return Err(NotRaised::Failed(Failure::generic(reason)));
    }
    if !report.gone.is_empty() {
        let reason = format!("{} vanished while the kernel checked for duplicates", named(&report.gone));
        return Err(NotRaised::Failed(Failure::generic(reason)));
    }
    if report.failed.is_empty() {
        return Ok(());
    }
    let found = format!("the kernel found another host with {}", named(&report.failed));
    if settings.duplicate_check == DuplicateCheck::Warn {
        run.log.warning(&format!("{found}; it does not use them until that host gives them up"));
        return Ok(());
    }
    Err(NotRaised::Taken(format!("{found}; no address is added. Find that host and take the address from it")))
}

fn announce_first<'a>(
    run: &Run,
    settings: &Settings,
    new: impl Iterator<Item = &'a NewAddress>,
    links: &Links,
) -> Result<(), NotRaised> {
    if settings.announce_count == 0 {
        return Ok(());
    }
    let owned: Vec<Owned> = new.map(|new| Owned { address: new.address, link: new.link }).collect();
    let links: Vec<Link> = links.values().flatten().cloned().collect();
    let sent = announce::announce(run.deadline, &owned, &links, Form::Request, settings.announce_rate);
    let sent = sent.context("the addresses are up and could not be announced")?;
    run.log.step(&format!("announced: {sent:?}"));
    Ok(())
}

fn as_old(new: &NewAddress) -> OldAddress {
    OldAddress { address: new.address, peer: None, prefix: new.prefix, link: new.link }
}
