//! `hvmail_ha configure`: a complete cluster configuration, printed and never applied, or a cluster's compared with it.

mod agents;
mod ask;
mod check;
mod crm;
mod found;
mod host;
mod model;
mod options;
mod pcs;
mod preference;
mod text;
mod xml;

use std::fs;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::configure::ask::Conversation;
use crate::configure::check::differences;
use crate::configure::found::Found;
use crate::configure::host::Host;
use crate::configure::model::{Model, breaks};
use crate::configure::options::Options;
use crate::configure::text::{NARROW, wrapped};
use crate::make::{DONE, REFUSED, say};
use crate::tools;

/// The part is left out, whatever the host has.
const NONE: &str = "none";

const HELP: &str = "\
Parts, each behind the one before, on the node where everything is promoted: DRBD, file systems on it, the database,
the addresses, the services. Those that are not named are left out; with --from-host, those that are named none
(--database=none). Timeouts are those of the agents' meta-data. With no option on a terminal it asks, and offers what
this host has. If one of two nodes has a device of its own, that of the first waits 5 s (pcmk_delay_base, where it is
not given): nodes that lose sight of each other would otherwise switch each other off. With --fencing-delay it is
the Primary that survives (priority, priority-fencing-delay): its fencing waits that long, which has to be longer than a
fencing takes. So does the fencing of a Primary that is dead: each failover takes that much longer.

Examples:
  hvmail_ha configure              asks
  hvmail_ha configure --from-host --pcs --fence n1=fence_ipmilan:ip=192.0.2.101,username=admin,password=secret \\
      --fence n2=fence_ipmilan:ip=192.0.2.102,username=admin,password=secret > pair.sh
  hvmail_ha configure --crm --node n1=192.0.2.1 --node n2=192.0.2.2 --database --ip-file --services \\
      --set services:critical=hvmail-qmail-smtpd2 --fence n1,n2=fence_sbd:devices=/dev/sdb > pair.crm
  hvmail_ha configure --check      is the running cluster, with the parts it has, as it should be?
  hvmail_ha configure --check --from-host --cib saved.xml

What is printed is applied by: crm configure load update pair.crm; sh pair.sh, and the command that it ends with;
cibadmin -M -c -o configuration -x pair.xml. Fencing devices stand in it with their passwords; on a command line ps
shows these: answer the questions instead, or write them into the file.

--check compares by what resources are, not by what they are called: resources, parameters, promotable clones,
operations and their timeouts, colocations, orders, thresholds, stickiness, fencing, alerts. What is there besides is
not judged.

Exit status:
  0  printed; or, with --check, as it should be
  1  refused, for want of fencing; or, with --check, something is otherwise
  3  wrong usage, or something could not be read";

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Crm,
    Pcs,
    Xml,
}

pub(crate) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let many = |name: &'static str, form: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(form).action(ArgAction::Append).help(help)
    };
    let part = |name: &'static str, form: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name(form).num_args(0..=1);
        arg.require_equals(true).default_missing_value("").help(help)
    };
    let forms = ["crm", "pcs", "xml", "check"];
    let form = |name: &'static str, help: &'static str| {
        flag(name, help).conflicts_with_all(forms.iter().filter(|one| **one != name))
    };
    Command::new("configure")
        .about("Prints a complete cluster configuration, or compares a cluster's with it; changes nothing")
        .after_help(HELP)
        .arg(form("crm", "For crm configure load update"))
        .arg(form("pcs", "As a script of pcs commands"))
        .arg(form("xml", "As XML for cibadmin"))
        .arg(form("check", "Compare the running cluster's configuration; without parts those that it has"))
        .arg(flag(
            "from-host",
            "What is not said is taken from this host: nodes, DRBD, file systems, GreenArrow's files",
        ))
        .arg(many("node", "NAME[=ADDRESS]", "A node, and its address for the other's database"))
        .arg(many("fence", "NODE=AGENT:NAME=VALUE,…", "The device that switches a node off; a comma in a value is \\,"))
        .arg(flag("without-fencing", "Though nothing can switch a node off, and all that breaks then"))
        .arg(
            Arg::new("fencing-delay")
                .long("fencing-delay")
                .value_name("SECONDS")
                .help("Nodes that lose each other: for so long nobody switches the Primary off"),
        )
        .arg(many("drbd", "RESOURCE", "A DRBD resource by its name in drbd.conf"))
        .arg(many("mount", "DEVICE:DIRECTORY:TYPE", "A file system on it; :OPTIONS may follow"))
        .arg(part("database", "DIRECTORY", "PostgreSQL; its data directory, if it is not GreenArrow's"))
        .arg(part("ip-file", "FILE", "The addresses; their file, if it is not /etc/hvmail_primary_ips"))
        .arg(part("services", "PATTERN", "The services; their pattern, if it is not hvmail-*"))
        .arg(many("set", "AGENT:NAME=VALUE", "A parameter of an agent, such as postgresql:sync=require"))
        .arg(many("alert", "PROGRAM", "A program that Pacemaker calls at every event"))
        .arg(
            Arg::new("cib")
                .long("cib")
                .value_name("FILE")
                .requires("check")
                .help("Compare this file (cibadmin --query)"),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<u8> {
    if !matches.args_present() && stdin().is_terminal() && stdout().is_terminal() {
        let host = look()?;
        tell(&host);
        let mut conversation = Conversation { input: &mut stdin().lock(), output: &mut stdout() };
        let (options, form) = conversation.hold(&host.options, likely_form())?;
        return Ok(say(print(&Model::of(&options)?, form)?.trim_end(), DONE));
    }
    let host = if matches.get_flag("from-host") { look()? } else { Host::default() };
    tell(&host);
    let options = options(matches, host.options)?;
    let form = [("crm", Form::Crm), ("pcs", Form::Pcs), ("xml", Form::Xml)];
    match form.into_iter().find(|(name, _)| matches.get_flag(name)) {
        _ if matches.get_flag("check") => check(options, matches.get_one::<String>("cib").map(Path::new)),
        Some((_, form)) => {
            options.check()?;
            if !options.without_fencing && !options.unfenced().is_empty() {
                return Ok(refuse(&options));
            }
            Ok(say(print(&Model::of(&options)?, form)?.trim_end(), DONE))
        }
        None => bail!("in which form? --crm, --pcs or --xml; or --check compares a cluster (--help)"),
    }
}

fn print(model: &Model, form: Form) -> Result<String> {
    match form {
        Form::Crm => crm::print(model),
        Form::Pcs => Ok(pcs::print(model)),
        Form::Xml => Ok(xml::print(model)),
    }
}

/// What administrators here have installed.
fn likely_form() -> Form {
    let installed = |name: &str| ocf::Program::new(name).path().is_some();
    match () {
        () if installed("crm") => Form::Crm,
        () if installed("pcs") => Form::Pcs,
        () => Form::Xml,
    }
}

fn look() -> Result<Host> {
    let cluster = tools::configuration_text().and_then(|text| Found::parse(&text)).ok();
    host::look(Path::new("/"), tools::drbd_dump().as_deref(), cluster.as_ref())
}

/// On standard error: standard output may go into a file.
fn tell(host: &Host) {
    let seen = host.seen.iter().map(|what| ("this host has", what));
    for (word, what) in seen.chain(host.unseen.iter().map(|what| ("not seen", what))) {
        let _ = writeln!(stderr(), "{word}: {what}");
    }
}

/// Part by part, what is said goes before what the host has.
fn options(matches: &ArgMatches, mut host: Options) -> Result<Options> {
    fn list<T>(matches: &ArgMatches, name: &str, host: Vec<T>, parse: fn(&str) -> Result<T>) -> Result<Vec<T>> {
        let said = crate::command_line::words(matches, name);
        match said.as_slice() {
            [] => Ok(host),
            [one] if one == NONE => Ok(Vec::new()),
            said => said.iter().map(|text| parse(text)).collect::<Result<_>>().with_context(|| format!("--{name}")),
        }
    }
    let default = |agent: &str, name: &str| -> Result<String> {
        let agent = agents::Agent::of(agent)?;
        Ok(agent.parameter(name).and_then(|one| one.default.clone()).unwrap_or_default())
    };
    let part = |name: &str, host: Option<String>, default: String, parse: fn(&str) -> Result<String>| -> Result<_> {
        match matches.get_one::<String>(name).map(String::as_str) {
            None => Ok(host),
            Some(NONE) => Ok(None),
            Some("") => Ok(Some(default)),
            Some(text) => parse(text).with_context(|| format!("--{name}")).map(Some),
        }
    };
    let pattern = |text: &str| options::sound(text).map(str::to_owned);
    let settings = list(matches, "set", Vec::new(), options::setting)?;
    host.settings.retain(|one| !settings.iter().any(|said| (&said.agent, &said.name) == (&one.agent, &one.name)));
    let delay = matches.get_one::<String>("fencing-delay").map(|text| options::fencing_delay(text));
    let options = Options {
        nodes: list(matches, "node", host.nodes, options::node)?,
        fences: list(matches, "fence", host.fences, options::fence)?,
        without_fencing: matches.get_flag("without-fencing"),
        fencing_delay: delay.transpose()?.or(host.fencing_delay),
        drbd: list(matches, "drbd", host.drbd, options::drbd)?,
        mounts: list(matches, "mount", host.mounts, options::mount)?,
        database: part("database", host.database, default("postgresql", "pgdata")?, options::path)?,
        ip_file: part("ip-file", host.ip_file, default("primary-ips", "ip_file")?, options::path)?,
        services: part("services", host.services, default("services", "pattern")?, pattern)?,
        settings: [host.settings, settings].concat(),
        alerts: list(matches, "alert", host.alerts, options::path)?,
    };
    Ok(without_lost_settings(options, matches))
}

/// What the host's settings belong to may have been left out; what was set by name stays, and is complained of.
fn without_lost_settings(mut options: Options, matches: &ArgMatches) -> Options {
    if options.database.is_none() && matches.get_flag("from-host") {
        let said = crate::command_line::words(matches, "set");
        options
            .settings
            .retain(|one| one.agent != "postgresql" || said.iter().any(|text| text.starts_with("postgresql:")));
    }
    options
}

fn refuse(options: &Options) -> u8 {
    let unfenced = options.unfenced();
    let mut text = format!("refused: nothing can switch {} off. Without fencing:\n", unfenced.join(" and "));
    for line in breaks(options).iter().flat_map(|what| wrapped(what, NARROW)) {
        text.extend([&line, "\n"]);
    }
    let remedy = format!(
        "Name a device for each node: --fence {}=AGENT:NAME=VALUE,… (stonith_admin --list-installed has the agents).\n\
         If it is wanted all the same: --without-fencing. Nothing was printed.",
        unfenced[0]
    );
    let _ = writeln!(stderr(), "{text}{remedy}");
    REFUSED
}

fn check(mut options: Options, file: Option<&Path>) -> Result<u8> {
    let text = match file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => tools::configuration_text()?,
    };
    let found = Found::parse(&text)?;
    if !options.has_parts() {
        let own = found.as_options()?;
        options = Options {
            drbd: own.drbd,
            mounts: own.mounts,
            database: own.database,
            ip_file: own.ip_file,
            services: own.services,
            settings: [own.settings, options.settings].concat(),
            fencing_delay: options.fencing_delay.or(own.fencing_delay),
            ..options
        };
    }
    if options.nodes.is_empty() {
        options.nodes = found.nodes.iter().map(|name| options::Node { name: name.clone(), address: None }).collect();
    }
    let model = Model::of(&options)?;
    let all = differences(&model, &found);
    if all.is_empty() {
        let parts: Vec<_> = model.chain.iter().map(|member| member.primitive.agent()).collect();
        return Ok(say(&format!("the configuration is as it should be: {}", parts.join(", ")), DONE));
    }
    let mut text = format!("{} things are otherwise than they should be:\n", all.len());
    for (one, number) in all.iter().zip(1..) {
        text.extend([&format!("  {number}. {}\n     ", one.what), one.remedy.as_str(), "\n"]);
    }
    Ok(say(&format!("{text}nothing was changed"), REFUSED))
}

#[cfg(test)]
#[path = "configure/configure_tests.rs"]
mod tests;
