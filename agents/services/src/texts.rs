//! The longer texts of the meta-data and the man page.

pub(crate) const LONG: &str = "\
Manages GreenArrow's daemontools services (/service/hvmail-*, the database excepted) as one resource: they are brought up \
and ended in their order, and what is running is known from what each supervise has written, without starting a program.

As a promotable clone, the promoted instance has the services up; an unpromoted one makes sure that none of them runs, and \
that none starts by itself when svscan does. As a plain resource, the started instance has the services up.

Services are found anew at each action. A down file, or expected_down, means a service that is normally down. The restart of \
a single service is supervise's work: it is reported as degraded, on which Pacemaker does not act, unless the service is \
named in critical and goes on flapping.

Needs no cluster tool, no program of GreenArrow's and no valid parameter to stop.";

pub(crate) const FILES: &str = "\
/service/NAME/supervise/status and the fifos beside it are read and written directly; svc and svstat are not needed.

/service/NAME/down and /service/NAME/log/down are the boot guards. They say so in their text, and a stop with \
boot_guard=false takes them away. Files of that name without this text are never touched.

/run/resource-agents/services-INSTANCE.state holds the role and what was brought up: for each service its process, where \
its directory is, and when it was restarted.

/service may be a link into a file system that moves with the Primary, and so may be the directories in it. Where they are \
on another file system than the scan directory, a stop also ends their supervises, which would keep it from being \
unmounted; svscan starts them again within five seconds of the mount, and promote waits for that.";

pub(crate) const STOPPING: &str = "\
A stop goes through these steps, all within the timeout of the action, and logs every ten seconds what it waits for:

First the services of stop_first get SIGTERM, with a head start of 30 seconds at most. Then mta_control is run with stop, for \
half of the time that is left at most. Then all others get SIGTERM, SIGINT and SIGKILL by stop_escalation, and the logs last. \
Processes that a service has started, and those that a dead supervise has left behind, are found in /proc and ended too.

A stop that says 0 has read everything again and found no process. One that fails names what is left.";

pub(crate) const MONITOR: &str = "\
Pacemaker takes 0, 8, 190 and 191 for success:

    0    unpromoted and ready, or active as a plain resource
    8    promoted, every service up that should be
    190  the same as 0, degraded; the exit reason says why
    191  the same as 8, degraded; the exit reason says why
    7    stopped
    9    promoted and failed: a critical service or all of them;
         or services run on an unpromoted instance

Degraded is: a service that is down, flapping, paused or not to be started again, one that was restarted since the last \
monitor, one that is normally down and runs, a supervise or svscan that is dead, a directory that is gone.

A monitor repairs two things, and says so: boot guards that are missing, and a service whose supervise was killed, when \
svscan has started another supervise for it: what the dead one left running is ended, and the service is brought up.

Check level 10 also connects to check_ports and runs status_command.";

pub(crate) const SCORE: &str = "\
In a promotable clone: 100 promoted; 50 unpromoted and ready; 5 for a minute after the promoted instance has failed there, \
so that another node's is promoted if there is one; -1000000, which no constraint overrides, when a parameter is wrong, when \
no svscan runs and svscan=none, and for 15 seconds after a promotion has failed.";

pub(crate) const BY_HAND: &str = "\
Each action can be run by hand, as root, with -o for parameters; on a terminal it says in words what it found:

    # cd /usr/lib/ocf/resource.d/greenarrow
    # OCF_RESOURCE_INSTANCE=mail ./services monitor
    # OCF_RESOURCE_INSTANCE=mail ./services reload

The latter tells the MTA, after a change of the addresses, as reload_mta says. Give OCF_RESOURCE_INSTANCE the resource's \
name, or the agent looks at an instance called default. A service taken down with svc -d in the meantime is reported and \
stays down; maintenance mode keeps Pacemaker's hands off all of them.";

pub(crate) const EXAMPLES: &str = "\
With crm:

    primitive mail ocf:greenarrow:services params svscan=start \\
        meta migration-threshold=1 failure-timeout=10min \\
        op start timeout=300s interval=0s op stop timeout=300s interval=0s \\
        op promote timeout=180s interval=0s op demote timeout=300s interval=0s \\
        op monitor interval=10s timeout=30s role=Promoted \\
        op monitor interval=11s timeout=30s role=Unpromoted
    clone mail-clone mail meta promotable=true

With pcs:

    pcs resource create mail ocf:greenarrow:services svscan=start \\
        meta migration-threshold=1 failure-timeout=10min promotable

Where the addresses are the promotable clone ips-clone, with crm:

    colocation mail-with-ips inf: mail-clone:Promoted ips-clone:Promoted
    order mail-after-ips Mandatory: ips-clone:promote mail-clone:promote

Pacemaker places the addresses first: without migration-threshold a resource that follows them and has failed is recovered \
where they are, again and again, however ready the other node is.

The vendor's own start at boot must be off: systemctl disable greenarrow. Then no svscan runs after a boot, and \
svscan=start makes the agent start it.";
