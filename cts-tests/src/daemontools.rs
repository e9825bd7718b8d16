//! Services for daemontools that behave, well or badly, in one plain way each.
//!
//! A service is described ([`Service`]) and becomes items of a disk by a pure function ([`Service::items`]), the same ones
//! for a test's private /run and for a node. As with GreenArrow its directory lives elsewhere, and the scan directory holds
//! a symbolic link to it.
//!
//! What is known of daemontools 0.76 and matters here: svscan looks for new entries every 5 s and takes no notice of a
//! link that leads nowhere but a line on its standard error; supervise starts a service that has ended a second after its
//! last start (`trystart` in supervise.c) and reads `down` only when it starts itself; everything below svscan is in one
//! process group and session, the services too.

use crate::disk::Item;

/// Where the parts of a tree of services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What svscan scans: links to the services.
    pub scan: String,
    /// The directories of the services, each below its name.
    pub homes: String,
    /// hvmail_init and greenarrow_status.
    pub programs: String,
    /// A line for each call of one of the programs.
    pub calls: String,
}

impl Places {
    /// As on a GreenArrow server; for a node.
    pub fn greenarrow() -> Self {
        Self::below("")
    }

    /// The same below /run, which is private in a test without a node.
    pub fn private() -> Self {
        Self::below("/run")
    }

    fn below(root: &str) -> Self {
        let inside = |path: &str| format!("{root}{path}");
        Self {
            scan: inside("/service"),
            homes: inside("/var/hvmail/service"),
            programs: inside("/var/hvmail/bin"),
            calls: inside("/var/hvmail/calls"),
        }
    }

    /// The directory of a service.
    pub fn home(&self, service: &str) -> String {
        format!("{}/{service}", self.homes)
    }

    /// The entry of a service in the scan directory.
    pub fn entry(&self, service: &str) -> String {
        format!("{}/{service}", self.scan)
    }

    /// A program of the tree.
    pub fn program(&self, name: &str) -> String {
        format!("{}/{name}", self.programs)
    }
}

/// A service: what its `run` does, and what is beside it.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    run: Option<String>,
    daemon: Option<&'static str>,
    log: bool,
    down: bool,
    broken: bool,
}

/// Each start adds its process id to `starts` in the service's directory.
const BEGINNING: &str = "#!/bin/sh\nexec 2>&1\necho $$ >> starts\n";

/// One process that does nothing until a signal ends it.
const FOR_EVER: &str = "exec sleep infinity\n";

/// Leaves its session and its directory: only its command line still tells where it belongs.
const DAEMON: &str = "#!/usr/bin/perl\nchdir '/';\nsleep 3600 while 1;\n";

impl Service {
    /// A service that runs until TERM ends it, without a log and without a `down` file.
    pub fn new(name: &str) -> Self {
        let run = Some(FOR_EVER.to_owned());
        Self { name: name.to_owned(), run, daemon: None, log: false, down: false, broken: false }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether svscan starts it: there is something to run and nothing that forbids it.
    pub fn starts_by_itself(&self) -> bool {
        self.run.is_some() && !self.down && !self.broken
    }

    fn runs(mut self, run: impl Into<String>) -> Self {
        self.run = Some(run.into());
        self
    }

    /// Runs until TERM ends it.
    #[must_use]
    pub fn steady(self) -> Self {
        self.runs(FOR_EVER)
    }

    /// Goes on for so many seconds after TERM, as qmail-send does while it flushes its queue, and adds a line to `flushed`
    /// in each. One process, in Perl: a shell would leave its `sleep` behind when it is killed.
    #[must_use]
    pub fn slow_stop(self, seconds: u32) -> Self {
        self.runs(format!(
            r#"exec perl -e '
    $| = 1;
    $SIG{{TERM}} = sub {{
        $SIG{{TERM}} = "IGNORE";
        for (my $left = {seconds}; $left > 0; $left--) {{
            print "flushing the queue: $left s left\n";
            open my $file, ">>", "flushed"; print $file "$left\n"; close $file;
            select undef, undef, undef, 1;
        }}
        exit 0;
    }};
    sleep 3600 while 1;
'
"#
        ))
    }

    /// Takes no notice of TERM and INT.
    #[must_use]
    pub fn ignores_term(self) -> Self {
        self.runs(format!("trap '' TERM INT\n{FOR_EVER}"))
    }

    /// Says why and exits at once; supervise starts it again each second.
    #[must_use]
    pub fn dies_at_once(self, status: u8) -> Self {
        let name = self.name.clone();
        self.runs(format!("echo 'fatal: {name} cannot read its configuration'\nexit {status}\n"))
    }

    /// Exits after so many seconds, whatever happens; supervise starts it again.
    #[must_use]
    pub fn dies_after(self, seconds: u32) -> Self {
        self.runs(format!("exec sleep {seconds}\n"))
    }

    /// Greets whoever connects to the port, on every IPv4 address, with `220 HOSTNAME BANNER`, and hangs up.
    #[must_use]
    pub fn listens(self, port: u16, banner: &str) -> Self {
        self.runs(format!("exec tcpserver -RHl0 0 {port} printf '220 %s %s\\r\\n' \"$(uname -n)\" '{banner}'\n"))
    }

    /// Starts a child that stays in the same directory, session and process group, and that no signal to the service's own
    /// process reaches. Each start leaves one more.
    #[must_use]
    pub fn forks_child(self) -> Self {
        self.runs(format!("sleep infinity &\n{FOR_EVER}"))
    }

    /// Starts a daemon that leaves the session and the directory and outlives the service. Each start leaves one more.
    #[must_use]
    pub fn daemonises(self) -> Self {
        Self { daemon: Some(DAEMON), ..self.runs(format!("setsid \"$(pwd -P)/daemon\" &\n{FOR_EVER}")) }
    }

    /// With a `log` service, multilog into `log/main`.
    #[must_use]
    pub fn with_log(self) -> Self {
        Self { log: true, ..self }
    }

    /// With an empty `down` file: supervise does not start it.
    #[must_use]
    pub fn down(self) -> Self {
        Self { down: true, ..self }
    }

    /// Without `run`: supervise tries each second, in vain.
    #[must_use]
    pub fn without_run(self) -> Self {
        Self { run: None, ..self }
    }

    /// An entry in the scan directory whose directory is not there, as while its file system is not mounted.
    #[must_use]
    pub fn broken_link(self) -> Self {
        Self { broken: true, ..self }
    }

    /// What this service is on a disk.
    pub fn items(&self, places: &Places) -> Vec<Item> {
        let home = places.home(&self.name);
        let entry = Item::link(places.entry(&self.name), home.as_str());
        if self.broken {
            return vec![Item::directory(places.homes.as_str()), entry];
        }
        let mut items = vec![Item::directory(home.as_str())];
        items.extend(self.run.iter().map(|run| Item::program(format!("{home}/run"), format!("{BEGINNING}{run}"))));
        items.extend(self.daemon.map(|daemon| Item::program(format!("{home}/daemon"), daemon)));
        if self.log {
            items.push(Item::program(format!("{home}/log/run"), "#!/bin/sh\nexec multilog t ./main\n"));
        }
        if self.down {
            items.push(Item::file(format!("{home}/down"), ""));
        }
        // The last: svscan may look at any moment, and supervise does not read `down` again.
        items.push(entry);
        items
    }
}

#[cfg(test)]
mod tests {
    use super::{Places, Service};
    use crate::disk::{Item, Kind};

    #[test]
    fn a_service_with_everything_on_disk_and_its_link_last() {
        let items = Service::new("a").steady().with_log().down().items(&Places::greenarrow());
        let paths: Vec<_> = items.iter().map(|item| item.path.as_str()).collect();
        let home = "/var/hvmail/service/a";
        assert_eq!(
            paths,
            [home, &format!("{home}/run"), &format!("{home}/log/run"), &format!("{home}/down"), "/service/a"]
        );
        assert_eq!(items.last(), Some(&Item::link("/service/a", home)));
        let Kind::File(run, mode) = &items[1].kind else { panic!("{items:?}") };
        assert_eq!((run.as_str(), *mode), ("#!/bin/sh\nexec 2>&1\necho $$ >> starts\nexec sleep infinity\n", 0o755));
    }

    #[test]
    fn a_broken_link_has_no_directory() {
        let items = Service::new("a").broken_link().items(&Places::private());
        assert_eq!(
            items,
            [Item::directory("/run/var/hvmail/service"), Item::link("/run/service/a", "/run/var/hvmail/service/a")]
        );
    }
}
