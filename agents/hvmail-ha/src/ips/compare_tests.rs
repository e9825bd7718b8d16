use std::path::PathBuf;

use super::*;

const LIST: &str = "192.0.2.1/24\n192.0.2.2/24\n2001:db8::1/64 eth1\n";

fn found(address: &str, prefix: Option<u8>, at: &str) -> Found {
    let interface = prefix.map(|_| at.to_owned());
    Found { address: address.parse().unwrap(), prefix, interface, at: at.to_owned() }
}

fn up() -> Vec<Found> {
    vec![
        found("192.0.2.1", Some(24), "eth0"),
        found("192.0.2.2", Some(24), "eth0"),
        found("2001:db8::1", Some(64), "eth1"),
        found("192.0.2.250", Some(24), "eth0"),
    ]
}

fn mtas() -> Vec<Found> {
    let one = |address, at| found(address, None, at);
    vec![one("192.0.2.1", "a (/c/g:2)"), one("192.0.2.2", "b (/c/g:5)"), one("2001:db8::1", "c (/c/g:8)")]
}

/// A pair in which all is as it should be, from the node that has the addresses.
fn sound() -> View {
    let list = List::of(LIST.as_bytes());
    let told = Some(list.digest.clone());
    View {
        here: "n1".to_owned(),
        path: "/etc/list".to_owned(),
        list: Ok(list.clone()),
        kernel: Ok(up()),
        holder: Some(true),
        told: told.clone(),
        peers: vec![Peer { node: "n2".to_owned(), online: true, told, read: Some(Ok(list)) }],
        unseen: Vec::new(),
        virtual_mtas: VirtualMtas { place: PathBuf::from("/c"), found: mtas(), ..VirtualMtas::default() },
    }
}

fn n2(view: &mut View, text: &str) {
    let list = List::of(text.as_bytes());
    view.peers[0] = Peer { told: Some(list.digest.clone()), read: Some(Ok(list)), ..view.peers[0].clone() };
}

fn n2_told(view: &mut View, text: &str) {
    n2(view, text);
    view.peers[0].read = None;
}

#[test]
fn where_nothing_differs_there_is_no_table() {
    let (text, status) = report(&sound());
    let words = "equal: the 3 addresses of /etc/list and kernel of n1, file of n2, VirtualMTAs\n";
    assert_eq!((text.as_str(), status), (words, 0));
    let mut standby = sound();
    standby.holder = Some(false);
    standby.kernel = Ok(vec![found("192.0.2.250", Some(24), "eth0")]);
    n2_told(&mut standby, LIST);
    assert_eq!(report(&standby).1, 0, "{}", report(&standby).0);
    assert!(report(&standby).0.contains("/etc/list and VirtualMTAs, the list of n2"), "{}", report(&standby).0);
}

/// A change of the sound pair, the exit status that follows, and words of what is said.
type Case = (&'static str, fn(&mut View), u8, &'static [&'static str]);

fn hold(cases: &[Case]) {
    for (name, change, status, words) in cases {
        let mut view = sound();
        change(&mut view);
        let (text, found) = report(&view);
        assert_eq!(found, *status, "{name}:\n{text}");
        for word in *words {
            assert!(text.contains(word), "{name}: {word:?} is not in\n{text}");
        }
    }
}

#[test]
fn every_difference_of_lists_has_its_row_its_sentence_and_its_status() {
    hold(&[
        (
            "a line is missing there",
            |view| n2(view, "192.0.2.1/24\n2001:db8::1/64 eth1\n"),
            1,
            &[
                "\n192.0.2.2  /24 line 2  /24 eth0      -           b (/c/g:5)\n",
                "differs  in /etc/list of n1 and not of n2: 192.0.2.2\n           if n1 has it right: hvmail_ha ips push;",
            ],
        ),
        (
            "a line more there",
            |view| n2(view, &format!("{LIST}192.0.2.9/24\n")),
            1,
            &[
                "\n192.0.2.9  -          -             /24 line 4  -\n",
                "in /etc/list of n2 and not of n1: 192.0.2.9\n",
                "push --replace",
            ],
        ),
        (
            "another prefix there",
            |view| n2(view, &LIST.replace("2.2/24", "2.2/25")),
            1,
            &["/25 line 2", "with another prefix or interface in /etc/list of n2 than of n1: 192.0.2.2\n"],
        ),
        ("a mistake there", |view| n2(view, &format!("{LIST}x\n")), 1, &["/etc/list of n2: line 4: \"x\": "]),
        (
            "without ssh",
            |view| n2_told(view, "192.0.2.1/24\n"),
            1,
            &["the list of n2 is another one: 1 addresses, 3 in /etc/list of n1", "hvmail_ha ips --ssh"],
        ),
        (
            "there not taken up",
            |view| view.peers[0].told = Some("9:0".to_owned()),
            1,
            &["the agent on n2 goes by another list than its file has now, with 9 addresses"],
        ),
        ("here not taken up", |view| view.told = Some("9:0".to_owned()), 1, &["the agent on n1 goes by another list"]),
        (
            "ssh fails",
            |view| view.peers[0].read = Some(Err("no route".to_owned())),
            3,
            &["unknown  /etc/list of n2 was not fetched: no route\n", "ssh n2 true"],
        ),
        (
            "n2 is gone",
            |view| view.peers[0] = Peer { node: "n2".to_owned(), online: false, told: None, read: None },
            3,
            &["n2 is not in the cluster"],
        ),
        ("n2 is mute", |view| (view.peers[0].told, view.peers[0].read) = (None, None), 3, &["on n2 has told no list"]),
        ("no cluster", |view| view.unseen.push("crm_mon hangs".to_owned()), 3, &["unknown  crm_mon hangs\n"]),
    ]);
}

#[test]
fn so_has_every_difference_from_the_kernel_and_the_virtual_mtas() {
    hold(&[
        (
            "one is down",
            |view| drop(view.kernel.as_mut().unwrap().remove(1)),
            1,
            &["not up on n1, which is to have all of /etc/list: 192.0.2.2\n"],
        ),
        (
            "another interface",
            |view| view.kernel.as_mut().unwrap()[2] = found("2001:db8::1", Some(64), "eth0"),
            1,
            &["up on n1 with another prefix or interface than in /etc/list: 2001:db8::1\n"],
        ),
        (
            "up on a standby",
            |view| view.holder = Some(false),
            1,
            &[
                "up on n1, which is to have none of /etc/list: 192.0.2.1, 192.0.2.2, 2001:db8::1\n",
                "ip address del 192.0.2.1/24 dev eth0",
            ],
        ),
        ("whose they are is not known", |view| (view.holder, view.kernel) = (None, Ok(Vec::new())), 0, &[]),
        (
            "a VirtualMTA elsewhere",
            |view| view.virtual_mtas.found.push(found("192.0.2.7", None, "d (/c/g:9)")),
            1,
            &[
                "\n192.0.2.7  -          -             -           d (/c/g:9)\n",
                "VirtualMTA d (/c/g:9) sends from 192.0.2.7, which /etc/list does not list",
            ],
        ),
        (
            "a VirtualMTA of a fixed address",
            |view| view.virtual_mtas.found.push(found("192.0.2.250", None, "d (/c/g:9)")),
            1,
            &["it does not move with the Primary (it is up on eth0 here, and stays)"],
        ),
        (
            "no VirtualMTA for one",
            |view| drop(view.virtual_mtas.found.pop()),
            0,
            &[
                "\n2001:db8::1  /64 line 3, eth1  /64 eth1      /64 line 3, eth1  -\n",
                "note     listed, and no VirtualMTA sends from it: 2001:db8::1\n",
            ],
        ),
        ("no VirtualMTAs", |view| view.virtual_mtas.found.clear(), 0, &["note     no VirtualMTA in the files of /c\n"]),
        (
            "no GreenArrow",
            |view| view.virtual_mtas.missing = Some(("/c: No such file".to_owned(), false)),
            0,
            &["note     no configuration of GreenArrow here: /c: No such file"],
        ),
        ("none where it was said", |view| view.virtual_mtas.missing = Some(("/c".to_owned(), true)), 3, &["unknown"]),
        ("a mistake here", |view| view.list = Ok(List::of(b"192.0.2.1\n")), 1, &["/etc/list: line 1: \"192.0.2.1\""]),
        ("no file", |view| view.list = Err("/etc/list cannot be read".to_owned()), 3, &["nothing to compare with"]),
    ]);
}

#[test]
fn the_screens_of_ips_are_as_they_were() {
    let mut view = sound();
    n2(&mut view, "192.0.2.1/24\n2001:db8::1/64 eth1\n192.0.2.9/24\n");
    view.kernel.as_mut().unwrap().remove(1);
    view.virtual_mtas.found.push(found("192.0.2.7", None, "d (/c/g:9)"));
    crate::captured::is_as_kept("ips", &format!("{}\n{}", report(&sound()).0, report(&view).0));
}

#[test]
fn a_sentence_names_few_and_the_table_all() {
    let mut view = sound();
    let many = (1..=9).map(|last| format!("198.51.100.{last}/24")).collect::<Vec<_>>().join("\n");
    n2(&mut view, &format!("{LIST}{many}"));
    let (text, _) = report(&view);
    assert!(text.contains("198.51.100.4, 198.51.100.5, and 4 more\n"), "{text}");
    assert!(text.contains("\n198.51.100.9  "), "{text}");
}
