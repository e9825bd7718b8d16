//! drbd.conf, as drbdadm understands it, and whether it still does.
//!
//! drbdadm is the only one that reads it: `dump-xml` prints what it means. Without a change of its files nobody is asked again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::utsname::uname;
use ocf::{Deadline, Failure, Output, Program, Run};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use crate::parameters::Settings;

/// What drbdadm made of the files as they were.
const KIND: &str = "configuration";
/// `include` may lead in a circle.
const DEEPEST: usize = 8;

/// What drbd.conf says of one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// The device of each volume of this node.
    pub(crate) devices: Vec<PathBuf>,
    pub(crate) hosts: Vec<String>,
    /// Options of the resource and of `common`, by section and name.
    pub(crate) options: BTreeMap<String, String>,
    /// drbdadm wants to be told that the resource lies upon another.
    pub(crate) stacked: bool,
}

impl Configuration {
    /// Asks drbdadm.
    pub(crate) fn read(run: &Run, settings: &Settings) -> Result<Self, Failure> {
        let dump = |stacked| adm(settings, stacked, &["dump-xml", &settings.name], run.deadline);
        let (first, mut stacked) = (dump(false)?, false);
        let mut output = first;
        if !output.status.success() && output.stderr.contains("not defined in your config") {
            let second = dump(true)?;
            if second.status.success() {
                (output, stacked) = (second, true);
            }
        }
        if !output.status.success() {
            return Err(Failure::not_installed(unusable(settings, &output)));
        }
        let mut found = Self { stacked, ..Self::parse(&output.stdout, &own_name())? };
        // Asked for one resource, drbdadm does not print what is common to all.
        let all = adm(settings, stacked, &["dump-xml"], run.deadline)?;
        if all.status.success() {
            let common = Self::parse_common(&all.stdout)?;
            found.options = common.into_iter().chain(found.options).collect();
        }
        Ok(found)
    }

    /// The option, such as `net/fencing`.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(crate) fn allows_two_primaries(&self) -> bool {
        self.option("net/allow-two-primaries").is_some_and(|value| value != "no")
    }

    /// 8.4 has the policy in section disk, 9 in net.
    pub(crate) fn fencing(&self) -> Option<&str> {
        self.option("net/fencing").or_else(|| self.option("disk/fencing"))
    }

    /// What `dump-xml RESOURCE` printed, as the host of that name.
    pub(crate) fn parse(xml: &str, own: &str) -> Result<Self> {
        let mut found = Self::default();
        let mut place = Place::default();
        let mut minor = String::new();
        let mut all_devices: Vec<(String, PathBuf)> = Vec::new();
        walk(xml, |event| {
            match event {
                Piece::Open(name, attribute) => {
                    match *name {
                        "resource" => place.resources += 1,
                        "host" if place.is("resource") => {
                            place.host = attribute("name").unwrap_or_default();
                            found.hosts.push(place.host.clone());
                        }
                        "device" => minor = attribute("minor").unwrap_or_default(),
                        "option" => place.option(&mut found.options, attribute),
                        _ => {}
                    }
                    place.open(name, attribute("name"));
                }
                Piece::Text(text) if place.is("device") => all_devices.push((place.host.clone(), text.into())),
                Piece::Text(_) => {}
                Piece::Close => {
                    // A device without a name of its own is /dev/drbdMINOR.
                    if place.is("device") && !place.texted {
                        all_devices.push((place.host.clone(), format!("/dev/drbd{minor}").into()));
                    }
                    place.close();
                }
            }
            place.texted = matches!(event, Piece::Text(_));
        })?;
        if place.resources != 1 {
            bail!("drbdadm dump-xml names {} resources, and one was asked for", place.resources);
        }
        let host =
            if found.hosts.iter().any(|host| host == own) { own } else { found.hosts.first().map_or("", |host| host) };
        found.devices = all_devices.into_iter().filter(|(of, _)| of == host).map(|(_, device)| device).collect();
        Ok(found)
    }

    /// The options in `<common>` of a whole `dump-xml`.
    fn parse_common(xml: &str) -> Result<BTreeMap<String, String>> {
        let (mut options, mut place) = (BTreeMap::new(), Place::default());
        walk(xml, |event| match event {
            Piece::Open(name, attribute) => {
                if *name == "option" && place.path.iter().any(|(open, _)| open == "common") {
                    place.option(&mut options, attribute);
                }
                place.open(name, attribute("name"));
            }
            Piece::Close => place.close(),
            Piece::Text(_) => {}
        })?;
        Ok(options)
    }
}

/// Where in the document the reader is.
#[derive(Default)]
struct Place {
    path: Vec<(String, String)>,
    host: String,
    resources: usize,
    texted: bool,
}

impl Place {
    fn open(&mut self, name: &str, of: Option<String>) {
        self.path.push((name.to_owned(), of.unwrap_or_default()));
    }

    fn close(&mut self) {
        self.path.pop();
    }

    fn is(&self, name: &str) -> bool {
        self.path.last().is_some_and(|(open, _)| open == name)
    }

    /// `<section name="net"><option name="fencing" value="…"/>`.
    fn option(&self, options: &mut BTreeMap<String, String>, attribute: &dyn Fn(&str) -> Option<String>) {
        let Some((_, section)) = self.path.last().filter(|(open, _)| open == "section") else { return };
        if let Some(name) = attribute("name") {
            options.insert(format!("{section}/{name}"), attribute("value").unwrap_or_default());
        }
    }
}

enum Piece<'a> {
    Open(&'a str, &'a dyn Fn(&str) -> Option<String>),
    Text(&'a str),
    Close,
}

fn walk(xml: &str, mut tell: impl FnMut(&Piece<'_>)) -> Result<()> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let attribute_of = |element: &BytesStart, name: &str| -> Option<String> {
        let attribute = element.try_get_attribute(name).ok().flatten()?;
        Some(attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
    };
    loop {
        match reader.read_event().context("what drbdadm dump-xml printed is not XML")? {
            Event::Start(element) => {
                tell(&Piece::Open(element.name().as_ref(), &|name| attribute_of(&element, name)));
            }
            Event::Empty(element) => {
                tell(&Piece::Open(element.name().as_ref(), &|name| attribute_of(&element, name)));
                tell(&Piece::Close);
            }
            Event::Text(text) if !text.trim().is_empty() => tell(&Piece::Text(text.trim())),
            Event::End(_) => tell(&Piece::Close),
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// This node's name, as drbd.conf means it.
pub(crate) fn own_name() -> String {
    uname().map(|names| names.nodename().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs drbdadm with the resource's drbd.conf.
pub(crate) fn adm(settings: &Settings, stacked: bool, words: &[&str], deadline: Deadline) -> Result<Output> {
    let program = Program::new("drbdadm").args([Path::new("-c"), &settings.drbdconf]);
    let program = if stacked { program.args(["-S"]) } else { program };
    // The module's version is none of what it is asked for here.
    program.args(words.iter().copied()).variable("DRBD_DONT_WARN_ON_VERSION_MISMATCH", "1").run(deadline)
}

fn unusable(settings: &Settings, output: &Output) -> String {
    format!("{} is not usable: {}", settings.drbdconf.display(), drbdadms_words(output))
}

/// What it says, without what other programs say that it starts.
pub(crate) fn drbdadms_words(output: &Output) -> String {
    let lines = output.stderr.lines().filter(|line| !line.contains("modinfo"));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// What is wrong with drbd.conf, for a monitor: drbdadm is started only when one of its files has changed.
pub(crate) fn fault(run: &Run, settings: &Settings) -> Option<String> {
    let now = fingerprint(&settings.drbdconf);
    let kept = run.store.read(KIND).ok().flatten().unwrap_or_default();
    if let Some((then, verdict)) = kept.split_once('\n')
        && then == now
    {
        return (!verdict.is_empty()).then(|| verdict.to_owned());
    }
    let deadline = run.deadline.at_most(run.deadline.remaining() / 2);
    let verdict = match adm(settings, false, &["dump-xml", &settings.name], deadline) {
        Ok(output) if output.status.success() => String::new(),
        // Those are found by their own way only.
        Ok(output) if output.stderr.contains("not defined in your config") => {
            match adm(settings, true, &["dump-xml", &settings.name], deadline) {
                Ok(stacked) if stacked.status.success() => String::new(),
                _ => unusable(settings, &output),
            }
        }
        Ok(output) => unusable(settings, &output),
        Err(error) => format!("{} cannot be checked: {error:#}", settings.drbdconf.display()),
    };
    // What cannot be kept is asked for again.
    let _ = run.store.write(KIND, &format!("{now}\n{verdict}"));
    (!verdict.is_empty()).then_some(verdict)
}

/// Changes when one of the files does that drbd.conf consists of.
fn fingerprint(file: &Path) -> String {
    let mut words = Vec::new();
    add(file, &mut words, DEEPEST);
    words.join(" ")
}

fn add(file: &Path, words: &mut Vec<String>, depth: usize) {
    let Ok(facts) = fs::metadata(file) else { return words.push(format!("{}:gone", file.display())) };
    let (seconds, nanoseconds) = (facts.mtime(), facts.mtime_nsec());
    words.push(format!("{}:{}:{}:{seconds}.{nanoseconds}", file.display(), facts.ino(), facts.len()));
    let Ok(text) = fs::read_to_string(file) else { return };
    if depth == 0 {
        return;
    }
    for pattern in included(&text) {
        for path in matching(file.parent().unwrap_or(Path::new("/")), &pattern) {
            add(&path, words, depth - 1);
        }
    }
}

/// The patterns of the lines `include "drbd.d/*.res";`.
fn included(text: &str) -> Vec<String> {
    let after = text.lines().filter_map(|line| line.trim_start().strip_prefix("include"));
    let quoted = after.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split_once('"'));
    quoted.map(|(pattern, _)| pattern.to_owned()).collect()
}

/// The files that an include means: * in the last part of the path, as the files of every distribution have it.
fn matching(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = directory.join(pattern);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let Some((before, after)) = name.split_once('*') else { return vec![path] };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let matches = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
    };
    let mut found: Vec<PathBuf> = entries.filter(matches).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"<resource name="r0" conf-file-line="/etc/drbd.conf:3">
        <host name="n1"><volume vnr="0"><device minor="0">/dev/drbd0</device><disk>/dev/vdb</disk></volume>
          <volume vnr="1"><device minor="7"></device><disk>/dev/vdc</disk></volume>
          <address family="ipv4" port="7788">10.0.0.1</address></host>
        <host name="n2"><volume vnr="0"><device minor="3">/dev/drbd3</device></volume></host>
        <connection><host name="n1"><address family="ipv4" port="7788">10.0.0.1</address></host>
          <section name="net"><option name="_name" value="n2"/></section></connection>
        <section name="net"><option name="allow-two-primaries" value="yes"/><option name="fencing" value="dont-care"/></section>
        </resource>"#;

    #[test]
    fn a_resource_has_the_devices_of_this_host() {
        let found = Configuration::parse(ONE, "n1").unwrap();
        assert_eq!(found.devices, [PathBuf::from("/dev/drbd0"), "/dev/drbd7".into()]);
        assert_eq!(found.hosts, ["n1", "n2"]);
        assert!(found.allows_two_primaries());
        assert_eq!(found.fencing(), Some("dont-care"));
        assert_eq!(Configuration::parse(ONE, "n2").unwrap().devices, [PathBuf::from("/dev/drbd3")]);
    }

    #[test]
    fn what_is_common_is_found_in_a_whole_dump() {
        let common = Configuration::parse_common(include_str!("../captures/dump.xml")).unwrap();
        assert_eq!(common.get("net/ping-timeout").map(String::as_str), Some("30"));
        assert_eq!(common.len(), 2);
        let one = Configuration::parse(include_str!("../captures/dump.xml"), "n2").unwrap();
        assert_eq!((one.devices, one.hosts.len()), (vec![PathBuf::from("/dev/drbd0")], 2));
    }

    #[test]
    fn what_is_no_dump_is_refused() {
        for wrong in ["", "<config/>", "<resource name='a'/><resource name='b'/>", "<a b='"] {
            assert!(Configuration::parse(wrong, "n1").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn includes_are_those_at_the_beginning_of_a_line() {
        let text =
            "# include \"no\";\n include \"drbd.d/*.res\";\ninclude\t\"/x/y\";\nresource include {}\ninclude x;\n";
        assert_eq!(included(text), ["drbd.d/*.res", "/x/y"]);
    }
}
