//! TCP connections of addresses that go, ended, so that their clients notice at once rather than after their timeouts.

use std::collections::HashSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use ocf::Deadline;

use crate::kernel::{Connections, Refusal};

/// Ends every TCP connection whose address on this node is one of `addresses`, IPv4 by way of IPv6 sockets included;
/// returns how many. The clients are told (RST) as long as the addresses are still there.
///
/// # Errors
/// The kernel was built without CONFIG_INET_DIAG_DESTROY, or it refuses.
pub(crate) fn kill(deadline: Deadline, addresses: &[IpAddr]) -> Result<usize> {
    let addresses: HashSet<IpAddr> = addresses.iter().copied().collect();
    let mut table = Connections::open(deadline)?;
    let mut doomed = table.list()?;
    doomed.retain(|connection| addresses.contains(&connection.local()));
    count_ended(&table.end(&doomed)?)
}

fn count_ended(answers: &[Result<(), Refusal>]) -> Result<usize> {
    let mut ended = 0;
    for answer in answers {
        match answer {
            Ok(()) => ended += 1,
            // Ended by itself since it was listed.
            Err(refusal) if refusal.errno == Errno::ENOENT => {}
            Err(refusal) if refusal.errno == Errno::EOPNOTSUPP => {
                bail!("this kernel cannot end connections: it was built without CONFIG_INET_DIAG_DESTROY")
            }
            Err(refusal) => return Err(refusal.clone()).context("cannot end a TCP connection"),
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests;
