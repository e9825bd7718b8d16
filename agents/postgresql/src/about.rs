//! What the agent says of itself: meta-data, man page and help are made from it.

use ocf::{About, Action, Advertised};

use crate::parameters::PARAMETERS;

pub(crate) const ABOUT: About = About {
    provider: "greenarrow",
    name: "postgresql",
    version: env!("CARGO_PKG_VERSION"),
    revised: "2026-11-27",
    short: "Manages a PostgreSQL primary and its standbys",
    long: LONG,
    parameters: PARAMETERS,
    actions: ACTIONS,
    sections: &[
        ("Preparation", PREPARATION),
        ("Files", FILES),
        ("Exit status of monitor", MONITOR),
        ("Promotion score", SCORE),
        ("After a failure", REJOIN),
        ("By hand", BY_HAND),
        ("Configuration", EXAMPLES),
    ],
};

const LONG: &str = "\
Manages PostgreSQL servers with streaming replication as a promotable clone: the promoted instance is the primary, the \
unpromoted ones are standbys that follow it. PostgreSQL 11 to 18; 9.5 to 10 by the same code, untested.

A start always makes a standby, whatever the server was before; only a promotion makes a primary, and before it the \
candidates compare how much of the log each has, by timeline and LSN. A primary is demoted by an orderly shutdown and a \
start as standby.

A monitor starts no program, but on a standby once a minute the one that asks for the primary's history, and on one that \
does not stream psql: it connects once to the server's Unix socket, as the server's user, and is answered within its \
timeout or says that it was not. A server that is full, starting, or in recovery from the crash of one process is not \
taken for one that has failed.

A stop needs neither a valid configuration nor the server's programs, and ends with 0 only when no process of the server \
is left.";

const ACTIONS: &[Advertised] = &[
    Advertised::new(Action::Start, 300),
    Advertised::new(Action::Stop, 120),
    Advertised::new(Action::Promote, 60),
    Advertised::new(Action::Demote, 300),
    Advertised::new(Action::Notify, 60),
    Advertised::new(Action::Monitor, 30).depth(0).every(10, Some("Promoted")),
    Advertised::new(Action::Monitor, 30).depth(0).every(11, Some("Unpromoted")),
    Advertised::new(Action::Monitor, 30).depth(10).every(61, Some("Promoted")),
    Advertised::new(Action::Monitor, 30).depth(10).every(67, Some("Unpromoted")),
    Advertised::new(Action::Reload, 60),
    Advertised::new(Action::ReloadAgent, 60),
    Advertised::new(Action::ValidateAll, 20).depth(0),
    Advertised::new(Action::ValidateAll, 20).depth(10),
];

const PREPARATION: &str = "\
Make the primary, let it allow replication from the other nodes (pg_hba.conf, wal_level=replica, max_wal_senders), and let \
its superuser in over the Unix socket by peer or trust. Copy it to the other nodes with pg_basebackup, without -R: a \
primary_conninfo in postgresql.auto.conf would override the agent's, and a start refuses it. On every node add to the end \
of postgresql.conf, with the data directory's path, or set add_include=true:

    include_if_exists '/var/hvmail/postgres/default/data/ocf-postgresql.conf'

Stop the servers, and disable whatever starts them at boot. For rejoin=rewind set wal_log_hints=on, or use data checksums.

Under daemontools (control=daemontools), as GreenArrow has it, touch SERVICE/down, and let the run script end in exec.

The clone needs notify=true, so that three or more nodes can compare what they have, and so that commits do not wait for a \
node that is gone.";

const FILES: &str = "\
DATADIR/ocf-postgresql.conf holds the agent's settings: primary_conninfo (before version 12 in recovery.conf), \
recovery_target_timeline, wal_retrieve_retry_interval, wal_receiver_timeout and wal_sender_timeout, and where the \
parameters ask for them primary_slot_name and synchronous_standby_names. It is written anew at every start.

DATADIR.diverged holds log that a rewind or a base backup has taken back. DATADIR.rewinding is there while a rewind is under way, or after \
one was interrupted: then the data directory must not be started.

/run/resource-agents/postgresql-INSTANCE.role holds the role that the cluster gave the instance.";

const MONITOR: &str = "\
Pacemaker takes 0, 8, 190 and 191 for success:

    0    a standby
    8    the primary
    190  a standby, degraded; the exit reason says why
    191  the primary, degraded; the exit reason says why
    7    stopped: no process of the server
    9    the promoted server has failed
    1    the unpromoted server has failed, or nobody can tell

Of several reasons the exit reason has as many whole sentences as Pacemaker shows (127 bytes), the most important first; \
the log has all.

Check level 10 writes a record into the primary's log and flushes it, and where not every other node streams from it, asks \
whether one of them accepts writes too (PostgreSQL 10 and later); on a standby it asks the other nodes which one is the \
primary now, and says when the standby streams from another server than that (PostgreSQL 11 and later tell), on another \
timeline, or without its slot.

A standby that has not streamed for 30 seconds asks the primary why, once a minute, with psql and as its receiver would: a \
wrong or missing password, a password file that others may read and another database are named with what to do.";

const SCORE: &str = "\
100 the primary; 55 a server that was the primary when it went down, after its start; 50 a standby that streams; 40 one that \
streamed and does not see its primary; 5 one that has not streamed since its start, is farther behind than maxlag, whose \
replay is paused, or whose disk is nearly full; -1000000, which no constraint overrides, \
where the history of the primary has left it, and for 15 seconds after a promotion was refused.

A standby that is away while the primary acknowledges commits lacks them. Before the first such commit the primary's agent \
writes the attribute NAME-lacks of the standby's node into the CIB, with its own node as value, and takes it away when the \
standby has caught up and, with sync, commits wait for it. Commits wait for a standby whose node the cluster has lost until \
that is fenced, and 30 seconds at most. A node with that attribute is promoted only where the node it \
names takes part and has no more; otherwise it waits for that node. If that node is gone for ever, what it acknowledged alone \
is given up by this command, which the log has too:

    crm_attribute --lifetime forever --node NODE --name NAME-lacks --delete; crm_resource --cleanup --resource NAME

That needs primary_hosts with the nodes' names.

A primary that fails is started again where it was, because what it acknowledged is on its own disk for certain and \
elsewhere perhaps. If it fails again within ten minutes, its score falls to 5 for a minute, and another node's is promoted, \
if that has as much of the log. One that ended because its disk is full gives way at once, and where commits waited for a \
standby, takes no part in the comparison while the disk is full: what it has more was acknowledged to nobody.";

const REJOIN: &str = "\
An old primary that has written what the new one never received does not become a standby by itself. With rejoin=manual a \
start refuses it, and the log has the command that mends it; hvmail_ha rejoin shows the loss and permits it once; with rejoin=rewind the start keeps the log that only \
this node has in DATADIR.diverged, and runs pg_rewind; with rejoin=basebackup it keeps that log too, takes a new base backup, \
and keeps the old data directory as DATADIR.old until the server streams with the new one; a monitor then has it removed, \
and the log says so. An interrupted rewind is never started; an exchange of directories that was interrupted is completed \
by the next start. Give start the time that these may take.";

const BY_HAND: &str = "\
Each action can be run by hand, as root, with -o for parameters; on a terminal it says in words what it found:

    # cd /usr/lib/ocf/resource.d/greenarrow
    # export OCF_RESOURCE_INSTANCE=pg
    # ./postgresql monitor; echo $?
    promoted: 0/50001A8 on timeline 2; streaming to n2
    8

Give OCF_RESOURCE_INSTANCE the resource's name, or the agent looks at an instance called default.";

const EXAMPLES: &str = "\
With crm:

    primitive pg ocf:greenarrow:postgresql \\
        params primary_hosts=\"n1:192.0.2.1 n2:192.0.2.2\" sync=prefer rejoin=rewind \\
        op start timeout=300s interval=0s op stop timeout=120s interval=0s \\
        op promote timeout=60s interval=0s op demote timeout=300s interval=0s \\
        op monitor interval=10s timeout=30s role=Promoted \\
        op monitor interval=11s timeout=30s role=Unpromoted
    clone pg-clone pg meta promotable=true notify=true

With pcs:

    pcs resource create pg ocf:greenarrow:postgresql primary_hosts=\"n1:192.0.2.1 n2:192.0.2.2\" \\
        promotable notify=true";
