//! Pictures made of what a real cluster said (captures/README.md).

use std::fs;
use std::path::Path;

use crate::agents::Word;
use crate::cib::{Configuration, Resource};
use crate::crm_mon::{Instance, Monitored};
use crate::picture::{List, Picture};
use crate::xml::Element;

/// When the captures are looked at.
const NOW: i64 = 1_795_570_000;

pub(crate) fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn state(name: &str) -> Monitored {
    Monitored::parse(&text(&format!("{name}.crm_mon.xml"))).unwrap()
}

fn told(file: &str) -> Vec<(String, String)> {
    let root = Element::parse(&text(file)).unwrap();
    root.children("attribute").map(|one| (one.get("host").to_owned(), one.get("value").to_owned())).collect()
}

/// What n1 sees.
pub(crate) fn picture(name: &str) -> Picture {
    let lists = if name == "wrong-list" { "wrong-list" } else { "healthy" };
    Picture {
        at: jiff::Timestamp::from_second(NOW).unwrap(),
        here: "n1".to_owned(),
        state: state(name),
        configuration: Configuration::parse(&text(&format!("{name}.cib.xml"))).unwrap(),
        lists: told(&format!("{lists}.ip-list.xml"))
            .into_iter()
            .map(|(node, told)| List { resource: "ips".to_owned(), node, told })
            .collect(),
        histories: told("healthy.history.xml"),
        words: [
            ("pg", "promoted: 0/5000148 on timeline 2; streaming to n2"),
            ("ips", "promoted: 3 IPv4 and 1 IPv6 addresses of /etc/hvmail_primary_ips are up on eth0"),
            ("services", "promoted: 8 services in /service, all run that should; normally down: hvmail-dnscache"),
        ]
        .map(|(resource, text)| Word { resource: resource.to_owned(), status: Some(8), text: text.to_owned() })
        .into(),
        unseen: Vec::new(),
    }
}

/// Compares with the screen that is kept; with SNAPSHOTS=write it is written anew.
pub(crate) fn is_as_kept(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("captures/screens/{name}.txt"));
    if std::env::var_os("SNAPSHOTS").is_some_and(|word| word == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(&path).unwrap_or_default(), "{} (SNAPSHOTS=write)", path.display());
}

/// With a second resource of the addresses, whose lists differ.
pub(crate) fn two_lists() -> Picture {
    let mut picture = picture("healthy");
    let ips = picture.configuration.of_agent("primary-ips").unwrap();
    let second = Resource { id: "ips2".to_owned(), promotable: Some("ips2-clone".to_owned()), ..ips.clone() };
    picture.configuration.resources.push(second);
    let instances = picture.state.instances.iter().filter(|one| one.resource == "ips").cloned();
    let instances: Vec<_> = instances.map(|one| Instance { resource: "ips2".to_owned(), ..one }).collect();
    picture.state.instances.extend(instances);
    for node in &mut picture.state.nodes {
        node.attributes.push(("master-ips2".to_owned(), "50".to_owned()));
    }
    for (node, told) in [("n1", "2:00000000000000aa"), ("n2", "1:00000000000000bb")] {
        picture.lists.push(List { resource: "ips2".to_owned(), node: node.to_owned(), told: told.to_owned() });
    }
    picture
}

/// Both Primary by force: what n1 sees, or what n2 does.
pub(crate) fn both_primary(here: &str) -> Picture {
    let mut picture = Picture { here: here.to_owned(), ..picture("maintenance") };
    let word = |resource: &str, status: i32, text: &str| Word {
        resource: resource.to_owned(),
        status: Some(status),
        text: text.to_owned(),
    };
    let up = "4 of 4 addresses are up although this instance is unpromoted: 10.78.1.1/16 on eth0";
    picture.words = if here == "n1" {
        let taken = "10.78.1.1 is in use by 02:78:00:00:00:02 on eth0";
        vec![word("pg", 191, "the server at 10.78.0.12 accepts writes too, on timeline 3"), word("ips", 191, taken)]
    } else {
        vec![word("pg", 8, "promoted: 0/3045418 on timeline 3; streaming to nobody"), word("ips", 9, up)]
    };
    picture
}
