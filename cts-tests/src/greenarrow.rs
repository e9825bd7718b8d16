//! A GreenArrow server as far as its services go: a tree of them with the vendor's names, and the vendor's two programs
//! for them, all emulated and run by the distribution's daemontools.

use crate::daemontools::{Places, Service};
use crate::disk::Item;

/// Where hvmail-qmail-smtpd2 listens.
pub const SMTP: u16 = 25;

/// Where hvmail-httpd listens.
pub const HTTP: u16 = 8080;

/// The services that hvmail_init starts and stops.
pub const MTA: &[&str] = &["hvmail-qmail-send", "hvmail-qmail-smtpd2"];

/// Those of the standard tree that run where GreenArrow is active and that the agent answers for, sorted. Not among them:
/// hvmail-postgres, which has an agent of its own, and hvmail-qmail-smtpd3 and hvmail-dnscache, which are down on a sound
/// server.
pub const ACTIVE: &[&str] = &[
    "hvmail-bounce-processor",
    "hvmail-config-agent",
    "hvmail-event-processor",
    "hvmail-httpd",
    "hvmail-logfile-writer",
    "hvmail-qmail-send",
    "hvmail-qmail-smtpd2",
    "hvmail-studio-worker",
];

/// What hvmail_init does, besides adding `hvmail_init WORD` to the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Stops the MTA after so many seconds with a line of progress each, starts it at once.
    Works(u32),
    /// Prints a line and never ends.
    Hangs,
    /// Says why on standard error and exits 1; nothing is stopped or started.
    Fails,
}

/// What greenarrow_status finds, whatever it is asked; it adds `greenarrow_status WORDS` to the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Exits 0.
    Sound,
    /// Prints a line in red and exits 1.
    Red,
    /// Never ends.
    Hangs,
}

/// Services with their places and programs.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Where everything is.
    pub places: Places,
    services: Vec<Service>,
    programs: Vec<Item>,
}

impl Tree {
    /// Without services and programs.
    pub fn new(places: Places) -> Self {
        Self { places, services: Vec::new(), programs: Vec::new() }
    }

    /// With one more service, or in place of the one of that name.
    #[must_use]
    pub fn with(mut self, service: Service) -> Self {
        self.services.retain(|one| one.name() != service.name());
        self.services.push(service);
        self
    }

    /// With an hvmail_init.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.programs.push(hvmail_init(&self.places, init));
        self
    }

    /// With a greenarrow_status.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.programs.push(greenarrow_status(&self.places, status));
        self
    }

    /// The names of those services that svscan starts by itself, sorted.
    pub fn starting(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.services.iter().filter(|one| one.starts_by_itself()).map(Service::name).collect();
        names.sort_unstable();
        names
    }

    /// Everything on disk; of two programs of one name the later one stays.
    pub fn items(&self) -> Vec<Item> {
        let base = [Item::directory(self.places.scan.as_str()), Item::file(self.places.calls.as_str(), "")];
        let services = self.services.iter().flat_map(|service| service.items(&self.places));
        base.into_iter().chain(self.programs.iter().cloned()).chain(services).collect()
    }
}

/// A sound server: a dozen services with the vendor's names, one that is none of the vendor's, and both programs. Nothing
/// on disk keeps hvmail-dnscache from running: that it is down there is its administrator's choice (`svc -d`).
pub fn standard_tree(places: Places) -> Tree {
    let steady = |name: &str| Service::new(name).steady().with_log();
    let plain = ["postgres", "studio-worker", "event-processor", "bounce-processor", "config-agent", "logfile-writer"];
    let tree = plain.iter().fold(Tree::new(places), |tree, name| tree.with(steady(&format!("hvmail-{name}"))));
    tree.with(Service::new("hvmail-httpd").listens(HTTP, "httpd").with_log())
        .with(Service::new("hvmail-qmail-send").slow_stop(2).with_log())
        .with(Service::new("hvmail-qmail-smtpd2").listens(SMTP, "ESMTP").with_log())
        .with(steady("hvmail-qmail-smtpd3").down())
        .with(steady("hvmail-dnscache"))
        .with(steady("other-thing"))
        .init(Init::Works(2))
        .status(Status::Sound)
}

/// The program that starts and stops the MTA.
pub fn hvmail_init(places: &Places, init: Init) -> Item {
    let services: Vec<_> = MTA.iter().map(|name| places.entry(name)).collect();
    let (services, calls) = (services.join(" "), &places.calls);
    let body = match init {
        Init::Works(seconds) => {
            let left: Vec<_> = (1..=seconds).rev().map(|left| left.to_string()).collect();
            let left = left.join(" ");
            format!(
                "start() {{ svc -u {services}; echo 'MTA started'; }}\n\
                 stop() {{\n\
                 \x20   for left in {left}; do echo \"Stopping MTA: $left messages left ...\"; sleep 1; done\n\
                 \x20   svc -d {services}\n    echo 'MTA stopped'\n}}\n\
                 case \"$1\" in\n\
                 start) start ;;\nstop) stop ;;\nrestart) stop; start ;;\n\
                 *) echo 'usage: hvmail_init start|stop|restart' >&2; exit 2 ;;\nesac\n"
            )
        }
        Init::Hangs => "echo 'Stopping MTA: 3 messages left ...'\nexec sleep infinity\n".to_owned(),
        Init::Fails => "echo 'hvmail_init: cannot lock /var/hvmail/control/lock' >&2\nexit 1\n".to_owned(),
    };
    Item::program(places.program("hvmail_init"), format!("#!/bin/sh\necho \"hvmail_init $*\" >> {calls}\n{body}"))
}

/// The program that judges the whole server.
pub fn greenarrow_status(places: &Places, status: Status) -> Item {
    let body = match status {
        Status::Sound => "echo 'all services ok'\n",
        Status::Red => "printf '\\033[31mhvmail-httpd: DOWN\\033[0m\\n'\nexit 1\n",
        Status::Hangs => "exec sleep infinity\n",
    };
    let begin = format!("#!/bin/sh\necho \"greenarrow_status $*\" >> {}\n", places.calls);
    Item::program(places.program("greenarrow_status"), begin + body)
}

#[cfg(test)]
mod tests {
    use super::{ACTIVE, standard_tree};
    use crate::daemontools::Places;

    #[test]
    fn what_svscan_starts_of_the_standard_tree() {
        let tree = standard_tree(Places::greenarrow());
        let mut expected = [ACTIVE, &["hvmail-dnscache", "hvmail-postgres", "other-thing"]].concat();
        expected.sort_unstable();
        assert_eq!(tree.starting(), expected);
    }
}
