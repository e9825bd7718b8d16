//! A DRBD resource as its kernel module sees it, in the module's own words.
//!
//! The words are those of `drbdsetup events2` (drbd-utils, `drbdsetup-events2(8)`, `drbd_strings.c`), the same for 8.4 and 9. A
//! later DRBD may know more of them: what is not known is kept as it is, and shown.

use std::collections::BTreeMap;
use std::fmt;

/// A word longer than this is none.
const LONGEST: usize = 64;

/// Declares an enumeration whose variants are DRBD's words, with room for a word that is none of them.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $word:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$each])* $word,)+
            /// A word of a DRBD that this agent does not know.
            Other(String),
        }

        impl $name {
            pub(crate) fn parse(word: &str) -> Self {
                match word {
                    $(stringify!($word) => Self::$word,)+
                    other => Self::Other(shown(other)),
                }
            }

            /// The word, if it is not known.
            pub(crate) fn foreign(&self) -> Option<&str> {
                if let Self::Other(word) = self { Some(word) } else { None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$word => stringify!($word),)+
                    Self::Other(word) => word,
                })
            }
        }
    };
}

words! {
    /// Who may write.
    Role { Primary, Secondary, Unknown }
}

words! {
    /// The state of the connection to one peer.
    Connection {
        /// Nobody is to connect: by `disconnect`, or because the handshake ended in "cannot" (split brain, other versions).
        StandAlone,
        Disconnecting, Unconnected, Timeout, BrokenPipe, NetworkFailure, ProtocolError, TearDown,
        /// 8.4 calls it WFConnection, but not in events2.
        Connecting,
        WFReportParams,
        Connected,
    }
}

words! {
    /// The state of a volume's data on one node.
    Disk {
        Diskless, Attaching, Detaching, Failed, Negotiating, Inconsistent, Outdated, DUnknown, Consistent, UpToDate,
    }
}

words! {
    /// What happens between the data here and that of one peer.
    Replication {
        Off, Established, StartingSyncS, StartingSyncT, WFBitMapS, WFBitMapT, WFSyncUUID, SyncSource, SyncTarget,
        VerifyS, VerifyT, PausedSyncS, PausedSyncT, Ahead, Behind,
    }
}

impl Disk {
    /// Neither good nor bad yet.
    pub(crate) fn in_transition(&self) -> bool {
        matches!(self, Self::Attaching | Self::Negotiating)
    }

    /// Whether it holds some whole state of the data, perhaps an old one.
    pub(crate) fn consistent(&self) -> bool {
        matches!(self, Self::Consistent | Self::UpToDate)
    }
}

impl Replication {
    /// Whether data is on its way, or waits to be.
    pub(crate) fn resyncs(&self) -> bool {
        use Replication as R;
        matches!(
            self,
            R::StartingSyncS
                | R::StartingSyncT
                | R::WFBitMapS
                | R::WFBitMapT
                | R::WFSyncUUID
                | R::SyncSource
                | R::SyncTarget
                | R::PausedSyncS
                | R::PausedSyncT
        )
    }

    /// Whether it is this node whose data is being replaced.
    pub(crate) fn towards_here(&self) -> bool {
        use Replication as R;
        matches!(self, R::StartingSyncT | R::WFBitMapT | R::WFSyncUUID | R::SyncTarget | R::PausedSyncT)
    }
}

/// A resource that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) role: Role,
    /// Why I/O is suspended: user, no-data, fencing, quorum. Empty: it is not.
    pub(crate) suspended: Vec<String>,
    /// DRBD 9: I/O errors are forced until the last opener is gone.
    pub(crate) failing_io: bool,
    pub(crate) volumes: BTreeMap<u32, Volume>,
    /// By node id; 8.4 has one peer, with the id 0.
    pub(crate) peers: BTreeMap<u32, Peer>,
}

/// A volume on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) minor: Option<u32>,
    pub(crate) disk: Disk,
    /// DRBD 9: diskless on purpose.
    pub(crate) client: bool,
    /// DRBD 9: false when this partition must not go on.
    pub(crate) quorum: bool,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// 8.4 says `peer` for whoever it is, or nothing.
    pub(crate) name: Option<String>,
    pub(crate) connection: Connection,
    pub(crate) role: Role,
    pub(crate) volumes: BTreeMap<u32, PeerVolume>,
}

/// A volume at a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerVolume {
    pub(crate) replication: Replication,
    pub(crate) disk: Disk,
    pub(crate) client: bool,
    /// Why a resync rests: user, peer, dependency. Empty: it does not.
    pub(crate) resync_suspended: Vec<String>,
    /// KiB that are known to differ.
    pub(crate) out_of_sync: Option<u64>,
    /// DRBD 9: how far a resync or verify is, in percent.
    pub(crate) done: Option<String>,
    /// DRBD 9, newer: seconds that a resync will still take.
    pub(crate) eta: Option<u64>,
}

impl Peer {
    /// Its node, where DRBD says it.
    pub(crate) fn node(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| !matches!(*name, "peer" | ""))
    }

    /// What to call it in a sentence.
    pub(crate) fn called(&self) -> String {
        self.node().map_or_else(|| "the peer".to_owned(), |name| format!("peer {name}"))
    }

    pub(crate) fn connected(&self) -> bool {
        self.connection == Connection::Connected
    }

    pub(crate) fn all_up_to_date(&self) -> bool {
        !self.volumes.is_empty() && self.volumes.values().all(|volume| volume.disk == Disk::UpToDate)
    }

    pub(crate) fn any_unknown(&self) -> bool {
        self.volumes.is_empty() || self.volumes.values().any(|volume| volume.disk == Disk::DUnknown)
    }

    /// Whether it is there to use the data of others.
    pub(crate) fn client(&self) -> bool {
        !self.volumes.is_empty() && self.volumes.values().all(|volume| volume.client)
    }
}

impl Resource {
    pub(crate) fn primary(&self) -> bool {
        self.role == Role::Primary
    }

    pub(crate) fn all_up_to_date(&self) -> bool {
        !self.volumes.is_empty() && self.volumes.values().all(|volume| volume.disk == Disk::UpToDate)
    }

    pub(crate) fn all_consistent(&self) -> bool {
        !self.volumes.is_empty() && self.volumes.values().all(|volume| volume.disk.consistent())
    }

    /// Whether no volume has a disk here, on purpose.
    pub(crate) fn client(&self) -> bool {
        !self.volumes.is_empty() && self.volumes.values().all(|volume| volume.client)
    }

    pub(crate) fn quorate(&self) -> bool {
        self.volumes.values().all(|volume| volume.quorum)
    }

    /// Peers that keep data.
    pub(crate) fn storing_peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(|peer| !peer.client())
    }

    pub(crate) fn peers_all_up_to_date(&self) -> bool {
        self.storing_peers().next().is_some() && self.storing_peers().all(Peer::all_up_to_date)
    }

    pub(crate) fn some_peer_all_up_to_date(&self) -> bool {
        self.storing_peers().any(Peer::all_up_to_date)
    }

    /// A resource without connections knows nothing of any peer either.
    pub(crate) fn some_peer_unknown(&self) -> bool {
        self.storing_peers().next().is_none() || self.storing_peers().any(Peer::any_unknown)
    }

    /// Whether nothing is known of the data on that node. Where no peer has its name, as with 8.4, it may be any.
    pub(crate) fn unknown_at(&self, node: &str) -> bool {
        match self.peers.values().find(|peer| peer.node() == Some(node)) {
            Some(peer) => peer.any_unknown(),
            None => self.some_peer_unknown(),
        }
    }

    pub(crate) fn primary_peer(&self) -> Option<&Peer> {
        self.peers.values().find(|peer| peer.role == Role::Primary)
    }

    pub(crate) fn minors(&self) -> Vec<u32> {
        self.volumes.values().filter_map(|volume| volume.minor).collect()
    }

    /// `Primary, UpToDate, Connected to Secondary UpToDate`.
    pub(crate) fn summary(&self) -> String {
        let disks: Vec<String> = self.volumes.values().map(|volume| volume.disk.to_string()).collect();
        let mut words = vec![self.role.to_string(), disks.join("/")];
        for peer in self.peers.values() {
            let disks: Vec<String> = peer.volumes.values().map(|volume| volume.disk.to_string()).collect();
            words.push(format!("{} {} {} {}", peer.called(), peer.connection, peer.role, disks.join("/")));
        }
        words.retain(|word| !word.is_empty());
        words.join(", ")
    }

    /// The words that this agent does not know.
    pub(crate) fn foreign(&self) -> Vec<&str> {
        let volumes = self.volumes.values().filter_map(|volume| volume.disk.foreign());
        let peers = self.peers.values().flat_map(|peer| {
            let volumes = peer.volumes.values();
            let volumes = volumes.flat_map(|volume| [volume.replication.foreign(), volume.disk.foreign()]);
            [peer.connection.foreign(), peer.role.foreign()].into_iter().chain(volumes).flatten()
        });
        self.role.foreign().into_iter().chain(volumes).chain(peers).collect()
    }
}

/// A word as it may stand in a sentence.
pub(crate) fn shown(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
