//! The one table of what the agent can be told, and what it says of itself.

use std::path::PathBuf;
use std::time::Duration;

use ocf::{About, Action, Advertised, Content, Parameter, Values};

/// The agent's description: meta-data, man page and help are made from it.
pub(crate) const ABOUT: About = About {
    provider: "greenarrow",
    name: "primary-ips",
    version: env!("CARGO_PKG_VERSION"),
    revised: "2026-11-22",
    short: "Manages the addresses of a GreenArrow Primary",
    long: LONG,
    parameters: PARAMETERS,
    actions: ACTIONS,
    sections: &[
        ("Files", FILES),
        ("Exit status of monitor", MONITOR),
        ("Promotion score", SCORE),
        ("By hand", BY_HAND),
        ("Configuration", EXAMPLES),
    ],
};

const LONG: &str = "\
Manages the whole set of addresses that a file lists, by default /etc/hvmail_primary_ips, as one resource: IPv4 and \
IPv6, one address or thousands. They are added together, checked for duplicates together, announced together and taken \
away together, and one look at the kernel tells whether all are there.

As a promotable clone, the promoted instance has the addresses; an unpromoted one checks that its node could take \
them over: that the file is valid and equal to the peer's, and that the interfaces are there. As a plain resource, the \
started instance has the addresses.

A change of the file is taken up at the next monitor, or at reload, without touching the other addresses.

Needs no cluster tool, no network and no valid file to stop.";

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "ip_file",
        content: Content::Path,
        default: Some("/etc/hvmail_primary_ips"),
        unique_group: Some("address_list"),
        reloadable: true,
        short: "File that lists the addresses",
        long: "The file that lists the addresses: one address/prefix a line, and after it the interface where it is not \
               the default one. A # begins a comment. It must be the same on all nodes. \
               (heartbeat:IPaddr2: ip and cidr_netmask, for one address.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "nic",
        short: "Interface for addresses without one of their own",
        long: "The interface of the addresses whose line names none. Without it each address goes to the interface that \
               carries a fixed address of the same subnet, the most specific one; failing that, to the interface of the \
               default route. (heartbeat:IPaddr2: nic.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "duplicate_check",
        content: Content::Choice(&["fail", "warn", "off"]),
        default: Some("fail"),
        reloadable: true,
        short: "What to do when another host has an address",
        long: "Whether to ask the network for other owners before addresses are added, by ARP probes (RFC 5227) and \
               neighbour solicitations with the kernel's duplicate address detection (RFC 4862): fail adds none of \
               them when one is found and names it with its hardware address; warn logs it and goes on; off does not \
               ask, as it must where a router answers for everybody (proxy ARP). Asking costs less than 100 ms for \
               hundreds of IPv4 addresses, and for IPv6 the one to two seconds of the kernel's own detection, in which \
               the IPv4 addresses serve already. \
               (heartbeat:IPaddr2: run_arping for IPv4, off by default; nodad for IPv6.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "announce_count",
        content: Content::Integer(0, 100),
        default: Some("5"),
        reloadable: true,
        short: "How often to announce the addresses",
        long: "How many times the new owner of an address announces it, by gratuitous ARP or unsolicited neighbour \
               advertisement. The first time is over before promote or start ends; a process of its own does the rest. \
               0 announces nothing. (heartbeat:IPaddr2: arp_count.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "announce_interval",
        content: Content::Time(10, 60_000),
        default: Some("1s"),
        reloadable: true,
        short: "Time between two announcements of an address",
        long: "The time between two announcements of an address. The repeated announcements of all addresses are spread \
               evenly over it, for routers that take only so many at once. (heartbeat:IPaddr2: arp_interval, in \
               milliseconds.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "announce_rate",
        content: Content::Integer(10, 1_000_000),
        default: Some("50000"),
        reloadable: true,
        short: "Announcements a second at most",
        long: "How many announcements a second may leave this node, over all addresses. The first announcement takes as \
               long as this makes it: 1000 addresses at 50000 a second take 20 ms. (heartbeat:IPaddr2 has nothing of \
               the kind.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "apply_changes",
        content: Content::Choice(&["auto", "reload"]),
        default: Some("auto"),
        reloadable: true,
        short: "When to take up a change of the file",
        long: "auto takes up a change of the file at the next monitor; reload at a reload only, and until then monitor \
               reports degraded and names the difference. Addresses that stay are not touched. (heartbeat:IPaddr2 has \
               nothing of the kind.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "on_drift",
        content: Content::Choice(&["repair", "fail"]),
        default: Some("repair"),
        reloadable: true,
        short: "What to do when addresses are missing or misplaced",
        long: "When monitor finds addresses missing, or with another prefix length or on another interface than they \
               belong: repair puts them right and reports degraded once; fail lets the monitor fail, and Pacemaker \
               recover. (heartbeat:IPaddr2 always fails.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "noprefixroute",
        content: Content::Boolean,
        default: Some("false"),
        short: "Add addresses without a route to their subnet",
        long: "Whether to add the addresses without the route to their subnet that the kernel otherwise makes. \
               (heartbeat:IPaddr2: noprefixroute.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "preferred_lft",
        content: Content::Checked(is_lifetime),
        default: Some("forever"),
        short: "How long IPv6 addresses are preferred, in seconds",
        long: "How long the IPv6 addresses are preferred as source addresses: forever, or a number of seconds; 0 makes \
               them deprecated at once, so that the node's own connections do not use them. (heartbeat:IPaddr2: \
               preferred_lft.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "kill_connections",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Reset TCP connections when addresses go",
        long: "Whether the TCP connections of the addresses are reset before the addresses are taken away, so that \
               clients notice at once rather than after their timeouts. Needs a kernel with CONFIG_INET_DIAG_DESTROY. \
               (heartbeat:IPaddr2 has nothing of the kind; heartbeat:portblock's tickle is near to it.)",
        ..Parameter::TEXT
    },
    Parameter {
        name: "check_link",
        content: Content::Choice(&["off", "degraded", "fail"]),
        default: Some("degraded"),
        reloadable: true,
        short: "What a lost carrier means",
        long: "What monitor says when an interface of the addresses is down or has no carrier: off, nothing; degraded, \
               that it is degraded, which a person sees and Pacemaker does not act upon; fail, that the resource has \
               failed, so that Pacemaker moves it. (heartbeat:IPaddr2 of resource-agents 4.12 has \
               nothing of the kind.)",
        ..Parameter::TEXT
    },
];

const ACTIONS: &[Advertised] = &[
    Advertised::new(Action::Start, 60),
    Advertised::new(Action::Stop, 60),
    Advertised::new(Action::Promote, 60),
    Advertised::new(Action::Demote, 60),
    Advertised::new(Action::Notify, 20),
    Advertised::new(Action::Monitor, 30).depth(0).every(10, Some("Promoted")),
    Advertised::new(Action::Monitor, 30).depth(0).every(11, Some("Unpromoted")),
    Advertised::new(Action::Monitor, 30).depth(10).every(61, Some("Promoted")),
    Advertised::new(Action::Reload, 60),
    Advertised::new(Action::ReloadAgent, 60),
    Advertised::new(Action::ValidateAll, 20).depth(0),
    Advertised::new(Action::ValidateAll, 20).depth(10),
];

const FILES: &str = "\
/etc/hvmail_primary_ips lists the addresses:

    # moved together with the Primary
    192.0.2.10/24
    192.0.2.11/24
    198.51.100.7/28 eth1
    2001:db8::10/64

Refused, all of them at once and with their line: an address that stands twice or with two prefix lengths, the network \
or broadcast address of a prefix, a prefix length that is missing or 0, loopback, multicast and reserved addresses, a \
link-local address without an interface, and an address that this node's Corosync is bound to. While the file is \
refused, the addresses stay as they are and monitor reports degraded.

/run/resource-agents/primary-ips-INSTANCE.state holds the role and the addresses that the instance has added.";

const MONITOR: &str = "\
Pacemaker takes 0, 8, 190 and 191 for success:

    0    unpromoted and ready, or active as a plain resource
    8    promoted, every address in place
    190  the same as 0, degraded; the exit reason says why
    191  the same as 8, degraded; the exit reason says why
    7    stopped
    9    addresses are up on an unpromoted instance, or missing with on_drift=fail

Check level 10 also asks the network whether another host has one of the addresses.";

const SCORE: &str = "\
In a promotable clone: 100 promoted; 50 unpromoted and ready; 20 ready, but with another list than another node; 5 when \
an interface of the addresses is down or has no carrier, and for a minute after the promoted instance has failed there, \
so that another node's is promoted if there is one; -1000000, which no constraint overrides, when the file or a parameter \
is wrong or an interface is missing, and for 15 seconds after a promotion has failed.

The scores, and the digest of each node's list (the private node attribute NAME-ip-list, for the resource NAME), are \
sent when they change and when pacemaker-attrd was started anew.";

const BY_HAND: &str = "\
Each action can be run by hand, as root, with -o for parameters; on a terminal it says in words what it found:

    # cd /usr/lib/ocf/resource.d/greenarrow
    # OCF_RESOURCE_INSTANCE=ips ./primary-ips monitor
    # ./primary-ips validate-all -o ip_file=/root/new_ips

Give OCF_RESOURCE_INSTANCE the resource's name, or the agent looks at an instance called default.";

const EXAMPLES: &str = "\
With crm:

    primitive ips ocf:greenarrow:primary-ips \\
        op start timeout=60s interval=0s op stop timeout=60s interval=0s \\
        op promote timeout=60s interval=0s op demote timeout=60s interval=0s \\
        op monitor interval=10s timeout=30s role=Promoted \\
        op monitor interval=11s timeout=30s role=Unpromoted
    clone ips-clone ips meta promotable=true

With pcs:

    pcs resource create ips ocf:greenarrow:primary-ips promotable";

/// When duplicates are looked for, and what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DuplicateCheck {
    Fail,
    Warn,
    Off,
}

/// What a lost carrier means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckLink {
    Off,
    Degraded,
    Fail,
}

/// The parameters, typed.
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of its own")]
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) ip_file: PathBuf,
    pub(crate) nic: Option<String>,
    pub(crate) duplicate_check: DuplicateCheck,
    pub(crate) announce_count: u32,
    pub(crate) announce_interval: Duration,
    /// Packets a second.
    pub(crate) announce_rate: u32,
    pub(crate) apply_changes_at_monitor: bool,
    pub(crate) repair_drift: bool,
    pub(crate) no_prefix_route: bool,
    /// Seconds; None is forever.
    pub(crate) preferred_lifetime: Option<u32>,
    pub(crate) kill_connections: bool,
    pub(crate) check_link: CheckLink,
    /// What is wrong with the parameters; the wrong ones are the defaults then.
    pub(crate) wrong: Option<String>,
    /// Whether `ip_file` is one of them: the default path may be the list of another resource.
    pub(crate) ip_file_is_wrong: bool,
}

impl Settings {
    pub(crate) fn read(values: &Values) -> Self {
        let text = |name| values.text(name).unwrap_or_default();
        let number = |name| u32::try_from(values.integer(name)).unwrap_or(u32::MAX);
        Self {
            ip_file: text("ip_file").into(),
            nic: values.text("nic").map(str::to_owned),
            duplicate_check: match text("duplicate_check") {
                "off" => DuplicateCheck::Off,
                "warn" => DuplicateCheck::Warn,
                _ => DuplicateCheck::Fail,
            },
            announce_count: number("announce_count"),
            announce_interval: values.time("announce_interval"),
            announce_rate: number("announce_rate"),
            apply_changes_at_monitor: text("apply_changes") == "auto",
            repair_drift: text("on_drift") == "repair",
            no_prefix_route: values.boolean("noprefixroute"),
            preferred_lifetime: preferred_lifetime(text("preferred_lft")),
            kill_connections: values.boolean("kill_connections"),
            check_link: match text("check_link") {
                "off" => CheckLink::Off,
                "fail" => CheckLink::Fail,
                _ => CheckLink::Degraded,
            },
            wrong: values.wrong(),
            ip_file_is_wrong: values.is_wrong("ip_file"),
        }
    }
}

fn is_lifetime(text: &str) -> Result<(), String> {
    if text == "forever" || preferred_lifetime(text).is_some() {
        return Ok(());
    }
    Err("forever or a number of seconds is expected".to_owned())
}

/// The kernel keeps lifetimes in 32 bits and takes the largest number for "for ever" (INFINITY_LIFE_TIME, net/addrconf.h).
fn preferred_lifetime(text: &str) -> Option<u32> {
    text.parse().ok().filter(|seconds| *seconds < u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_forever_or_seconds() {
        assert_eq!((is_lifetime("forever"), preferred_lifetime("forever")), (Ok(()), None));
        assert_eq!((is_lifetime("0"), preferred_lifetime("0")), (Ok(()), Some(0)));
        for wrong in ["", "-1", "never", "4294967295", "1s"] {
            assert!(is_lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
