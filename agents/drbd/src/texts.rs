//! The longer texts of meta-data, man page and help.

pub(crate) const LONG: &str = "\
Manages the role of a DRBD resource as a promotable clone, and says what is wrong with it: a successor of ocf:linbit:drbd with \
the same parameters. DRBD 8.4 and 9.

What DRBD knows and nobody hears of otherwise becomes the exit reason of a degraded monitor: a resync with its progress, a lost \
peer, a lost disk, suspended I/O, what a verify has found, a split brain with the commands for both ways out. A promotion that \
cannot succeed fails at once with DRBD's words; a demote that cannot succeed ends in time and names the processes and mounts in \
the way. A module that cannot be loaded is explained by the kernels that have one.

Start and reload need drbd.conf and drbdadm; to look, to promote, to demote and to stop the kernel and drbdsetup are enough, so \
that a broken drbd.conf neither fails a healthy Primary nor keeps a node from being stopped. A reload that cannot take it up \
changes nothing, says so in the log, and does not fail what runs.

Data are safe in a partition of the cluster only with fencing in drbd.conf (resource-and-stonith and the handlers) and in \
Pacemaker, or with DRBD 9's quorum. No agent can replace that.";

pub(crate) const LINBIT: &str = "\
Change the provider of the primitive, and nothing else, in maintenance mode:

    crm_attribute --name maintenance-mode --update true
    cibadmin --query --scope resources > resources.xml
    sed -i '/type=\"drbd\"/s/provider=\"linbit\"/provider=\"greenarrow\"/' resources.xml
    cibadmin --replace --scope resources --xml-file resources.xml
    crm_resource --refresh
    crm_attribute --name maintenance-mode --delete

Instances that run are taken over as they are, in the role they have.

What differs: notify=true is not needed; monitor says 190 or 191 where something is wrong (Pacemaker counts both as success); \
promote gives up where another try cannot help; stop and demote always end within their timeout; the role is changed and the \
resource taken down with drbdsetup, so that drbd.conf need not be readable.";

pub(crate) const MONITOR: &str = "\
0: Secondary, connected, with good data. 8: the same as Primary. 7: down.

190 (Secondary) and 191 (Primary): it works, and somebody should look: the reason says at what. A resync that runs, \
with its progress; a peer that is gone or a replication link that is cut; StandAlone and split brain; a disk that was \
lost on this or the other side; data that is Inconsistent, Outdated or of unknown age; differences that a verify has \
found; a congested link (Ahead, Behind); both nodes Primary where one is meant; drbd.conf that cannot be read; a word \
of a later DRBD that the agent does not know.

What a verify has found a new connection of DRBD 8.4 copies anew, from the Primary to the other node, whichever is \
right: where the Primary's data is the wrong one, the role is moved first. Without a Primary a new connection copies \
nothing; drbdadm invalidate copies all. DRBD 9 forgets it with the next connection, if nothing was written meanwhile, \
and copies nothing: there drbdadm invalidate --reset-bitmap=no on the node that is wrong copies what was found, in \
either role.

9: a Primary without data: its disk is lost, or is not good, and no connected peer has good data; its volume has no quorum and \
its I/O fails. Also suspended I/O for lack of data (no-data): only another node can serve then.

Suspended I/O for another reason is 191: with fencing DRBD waits for the handler, which ends by itself; with quorum \
for its partition, as on-no-quorum suspend-io wishes; by hand for a hand. A demote would not succeed before, and the \
node would be fenced.

1: what DRBD does cannot be told, for example because drbdsetup does not answer.";

pub(crate) const SCORE: &str = "\
The ladder of adjust_master_score, by default: 10000 for good data (UpToDate) on a Primary, or on a Secondary that \
knows its peers' state or is connected to the Primary; 1000 for good data on a Secondary that does not; 10 where only \
a peer has good data; none otherwise, as when the data is Inconsistent, Outdated, or only Consistent. No score without \
quorum, none where a promotion would lose what the other node of a split brain has written, and none for 15 seconds \
after a promotion that failed. A resource that is down has none.

It is sent with crm_attribute when it changes, and only then.";

pub(crate) const SPLIT_BRAIN: &str = "\
When both nodes have written without each other, DRBD keeps them apart: StandAlone on one or both. The agent compares the data \
generations of both nodes, which they tell each other as a private node attribute (drbd-RESOURCE) while they have no connection, \
names the split brain, and prints the commands for both ways out. It never chooses one.

A node that was Primary when they parted may be promoted again, after a stop and a start too, until the other is Primary. One \
that was not is refused, and has no promotion score: what the other has written would be lost. So is one of which drbdsetup \
does not say what it has written (get-gi), and one that lacks what the other has written since only one of them gave up the \
connection; the other goes on trying to connect, which shows as Connecting. Once the node with more is lost, only fencing in \
drbd.conf keeps the other from being promoted.";

pub(crate) const FENCING: &str = "\
greenarrow-drbd-fence does what crm-fence-peer.9.sh and crm-unfence-peer.9.sh of drbd-utils do, with the same constraint and the \
same exit codes. It takes their options but --suicide-on-failure-if-primary, --CTS-mode and --unreachable-peer-is-outdated, \
which have no effect, and says so in the log. In drbd.conf:

    resource mail {
        net { fencing resource-and-stonith; }     # DRBD 8.4: disk { fencing resource-and-stonith; }
        handlers {
            fence-peer \"/usr/sbin/greenarrow-drbd-fence fence\";
            unfence-peer \"/usr/sbin/greenarrow-drbd-fence unfence\";         # DRBD 9
            after-resync-target \"/usr/sbin/greenarrow-drbd-fence unfence\";  # DRBD 8.4
        }
    }

validate-all at level 10 warns where they are missing.";

pub(crate) const FILES: &str = "\
/etc/drbd.conf and what it includes: read by drbdadm at start, reload and validate-all, and by a monitor when one of \
the files has changed since it was usable.

/proc/drbd: the module's version, and the progress of a resync.

/run/resource-agents/drbd-INSTANCE.*: what was started or taken over, said to the cluster and found out; gone after a reboot.";

pub(crate) const BY_HAND: &str = "\
Each action can be run by hand, as root, with -o for parameters; on a terminal it says in words what it found:

    # cd /usr/lib/ocf/resource.d/greenarrow
    # ./drbd monitor -o drbd_resource=mail
    # ./drbd validate-all -o drbd_resource=mail

The latter checks the module, drbd.conf and whether its fencing is complete.";

pub(crate) const EXAMPLES: &str = "\
With crm:

    primitive drbd ocf:greenarrow:drbd params drbd_resource=mail \\
        op start timeout=240s interval=0s op stop timeout=100s interval=0s \\
        op promote timeout=90s interval=0s op demote timeout=90s interval=0s \\
        op monitor interval=10s timeout=20s role=Promoted \\
        op monitor interval=20s timeout=20s role=Unpromoted
    clone drbd-clone drbd meta promotable=true clone-max=2 notify=true

With pcs:

    pcs resource create drbd ocf:greenarrow:drbd drbd_resource=mail \\
        promotable clone-max=2 notify=true";
