use super::*;

#[test]
fn what_is_typed_is_understood() {
    assert_eq!(node("n1").unwrap(), Node { name: "n1".to_owned(), address: None });
    assert_eq!(node("n1=2001:db8::1").unwrap().address.as_deref(), Some("2001:db8::1"));
    let device = fence("n1,n2=fence_x:ip=192.0.2.9,password=a\\,b=c \"d\",empty=").unwrap();
    assert_eq!((device.nodes, device.agent.as_str()), (vec!["n1".to_owned(), "n2".to_owned()], "fence_x"));
    let pairs = [("ip", "192.0.2.9"), ("password", "a,b=c \"d\""), ("empty", "")];
    assert_eq!(device.parameters, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(fence("n1=external/ipmi").unwrap().agent, "external/ipmi");
    let one = mount("/dev/drbd0:/srv/greenarrow:xfs:noatime,context=a:b").unwrap();
    assert_eq!((one.kind.as_str(), one.options.as_deref()), ("xfs", Some("noatime,context=a:b")));
    assert_eq!(mount("/dev/drbd0:/srv:ext4").unwrap().options, None);
    assert_eq!(setting("postgresql:sync=require").unwrap().value, "require");
    assert_eq!(["20", "20s"].map(|text| fencing_delay(text).unwrap()), [20, 20]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_form() {
    for (error, word) in [
        (node("n1=").unwrap_err(), "NAME=ADDRESS"),
        (node("n 1=192.0.2.1").unwrap_err(), "NAME=ADDRESS"),
        (fence("fence_ipmilan").unwrap_err(), "NODE=AGENT"),
        (fence("n1=fence_x:ip").unwrap_err(), "NODE=AGENT"),
        (fence("n1=fence_x:a=b\nc").unwrap_err(), "control character"),
        (mount("/dev/drbd0:/srv").unwrap_err(), "DEVICE:DIRECTORY:TYPE"),
        (mount("/dev/drbd0:srv:xfs").unwrap_err(), "DEVICE:DIRECTORY:TYPE"),
        (setting("postgresql:colour=red").unwrap_err(), "has no parameter \"colour\""),
        (setting("pg:sync=off").unwrap_err(), "none of the agents"),
        (setting("postgresql:pgdata=/x").unwrap_err(), "--database"),
        (path("etc/ips").unwrap_err(), "absolute path"),
        (fencing_delay("9").unwrap_err(), "10 s at least"),
        (fencing_delay("1min").unwrap_err(), "no number of seconds"),
    ] {
        assert!(format!("{error:#}").contains(word), "{error:#}");
    }
    // A password is not repeated in an error.
    assert!(!format!("{:#}", fence("n1=fence_x:password:geheim").unwrap_err()).contains("geheim"));
}

#[test]
fn contradictions_are_named() {
    let nodes: Vec<_> = ["n1", "n2"].map(|name| node(name).unwrap()).into();
    let right = Options { nodes, ip_file: Some("/etc/ips".to_owned()), ..Options::default() };
    right.check().unwrap();
    assert_eq!(right.unfenced(), ["n1", "n2"]);
    let changed = |change: fn(&mut Options)| {
        let mut options = right.clone();
        change(&mut options);
        format!("{:#}", options.check().unwrap_err())
    };
    for (said, word) in [
        (changed(|options| options.nodes.truncate(1)), "two nodes"),
        (changed(|options| options.nodes[1].name = "n1".to_owned()), "named twice"),
        (changed(|options| options.ip_file = None), "nothing to run"),
        (changed(|options| options.fences.push(fence("n3=fence_x").unwrap())), "n3 is none of the nodes n1, n2"),
        (changed(|options| options.drbd = vec!["r0".to_owned(), "r0".to_owned()]), "named twice"),
        (
            changed(|options| options.settings.push(setting("services:svscan=none").unwrap())),
            "no ocf:greenarrow:services",
        ),
        (
            changed(|options| (options.without_fencing, options.fencing_delay) = (true, Some(20))),
            "--fencing-delay and --without-fencing",
        ),
        (
            changed(|options| {
                options.without_fencing = true;
                options.fences.push(fence("n1=fence_x").unwrap());
            }),
            "contradict",
        ),
    ] {
        assert!(said.contains(word), "{said}");
    }
}
