//! The second rig: virtual machines with a kernel of their own, for what the emulated nodes' shared kernel cannot do. That
//! is DRBD.
//!
//! Guests ([`guest`]) start from one image ([`image`]) of the host's own packages ([`system`]), are connected by a switch
//! in user space ([`switch`]), and obey over a virtio-serial port ([`channel`], [`message`]). Clients are outside of them, in
//! the network namespace of the test ([`outside`]); nothing of it has an address on the host.

pub mod chain;
pub mod chain_outages;
mod chain_setup;
pub mod chain_volumes;
pub mod channel;
pub mod cluster;
pub mod drbd;
pub mod drbd_losses;
pub mod drbd_pair;
pub mod drbd_scenarios;
pub mod errand;
pub mod guest;
pub mod image;
pub mod initramfs;
pub mod message;
pub mod outside;
pub mod power;
pub mod qemu;
pub mod rack;
pub mod stream;
pub mod switch;
pub mod system;

use std::net::Ipv4Addr;

/// The name of the virtio-serial port that host and guest talk over.
pub const PORT: &str = "rig";

/// Where a guest keeps what belongs to the rig.
pub const DIRECTORY: &str = "/run/rig";

/// Prefix length of the subnet of every guest's eth1, the replication link.
pub const REPLICATION_PREFIX: u8 = 24;

/// The address of guest `number` on eth1; on eth0 it has that of the node of the same number.
pub fn replication_ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 79, 0, 10 + number)
}
