//! What drbd.conf says of a resource, as `drbdadm dump-xml` prints it (drbdadm(8)).

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

/// What drbd.conf says of one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// The device of each volume of this node.
    pub(crate) devices: BTreeMap<u32, PathBuf>,
    pub(crate) hosts: Vec<String>,
    /// Options of the resource and of `common`, by section and name.
    pub(crate) options: BTreeMap<String, String>,
}

impl Configuration {
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
        let mut all_devices: Vec<(String, u32, PathBuf)> = Vec::new();
        let mut volume = 0;
        walk(xml, |event| {
            match event {
                Piece::Open(name, attribute) => {
                    match *name {
                        "resource" => place.resources += 1,
                        "host" if place.is("resource") => {
                            place.host = attribute("name").unwrap_or_default();
                            found.hosts.push(place.host.clone());
                        }
                        "volume" => volume = attribute("vnr").and_then(|number| number.parse().ok()).unwrap_or(0),
                        "device" => minor = attribute("minor").unwrap_or_default(),
                        "option" => place.option(&mut found.options, attribute),
                        _ => {}
                    }
                    place.open(name, attribute("name"));
                }
                Piece::Text(text) if place.is("device") => all_devices.push((place.host.clone(), volume, text.into())),
                Piece::Text(_) => {}
                Piece::Close => {
                    // A device without a name of its own is /dev/drbdMINOR.
                    if place.is("device") && !place.texted {
                        all_devices.push((place.host.clone(), volume, format!("/dev/drbd{minor}").into()));
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
        let here = all_devices.into_iter().filter(|(of, ..)| of == host);
        found.devices = here.map(|(_, volume, device)| (volume, device)).collect();
        Ok(found)
    }

    /// The options in `<common>` of a whole `dump-xml`.
    pub(crate) fn parse_common(xml: &str) -> Result<BTreeMap<String, String>> {
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
        assert_eq!(found.devices, BTreeMap::from([(0, "/dev/drbd0".into()), (1, "/dev/drbd7".into())]));
        assert_eq!(found.hosts, ["n1", "n2"]);
        assert!(found.allows_two_primaries());
        assert_eq!(found.fencing(), Some("dont-care"));
        assert_eq!(Configuration::parse(ONE, "n2").unwrap().devices, BTreeMap::from([(0, "/dev/drbd3".into())]));
    }

    #[test]
    fn what_is_common_is_found_in_a_whole_dump() {
        let common = Configuration::parse_common(include_str!("../captures/dump.xml")).unwrap();
        assert_eq!(common.get("net/ping-timeout").map(String::as_str), Some("30"));
        assert_eq!(common.len(), 2);
        let one = Configuration::parse(include_str!("../captures/dump.xml"), "n2").unwrap();
        assert_eq!((one.devices, one.hosts.len()), (BTreeMap::from([(0, "/dev/drbd0".into())]), 2));
    }

    #[test]
    fn what_is_no_dump_is_refused() {
        for wrong in ["", "<config/>", "<resource name='a'/><resource name='b'/>", "<a b='"] {
            assert!(Configuration::parse(wrong, "n1").is_err(), "{wrong:?}");
        }
    }
}
