use super::*;

struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hvmail-ha-host-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const COROSYNC: &str = "totem {\n version: 2\n}\nnodelist {\n node {\n  ring0_addr: 192.0.2.1\n  name: n1\n nodeid: 1\n }\n \
    node {\n  name: n2\n  ring0_addr: 2001:db8::2\n }\n}\nlogging {\n name: x\n}\n";

#[test]
fn a_greenarrow_host_is_seen() {
    let root = Root::new("whole");
    root.file("etc/corosync/corosync.conf", COROSYNC)
        .file("etc/drbd.conf", "# all\ninclude \"drbd.d/global_common.conf\";\ninclude \"/etc/drbd.d/*.res\";\n")
        .file("etc/drbd.d/global_common.conf", "global { usage-count no; }\n")
        .file("etc/drbd.d/a.res", "resource mail {\n on n1 { device /dev/drbd0; }\n}\nresource \"web\"\n{\n}\n")
        .file("etc/drbd.d/b.res.off", "resource none {\n}\n")
        .file("etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n#/dev/drbd9 /x xfs\n/dev/drbd0 /srv/green\\040arrow xfs noatime,noauto,_netdev 0 0\n")
        .file("proc/mounts", "/dev/drbd0 /srv/green\\040arrow xfs rw,relatime 0 0\n/dev/drbd1 /web ext4 rw 0 0\n")
        .file("etc/hvmail_primary_ips", "192.0.2.10/24\n")
        .file("service/hvmail-postgres/run", "")
        .file("var/hvmail/postgres/16/x", "");
    for (link, target) in [("postgres/default", "16"), ("log", "/srv/green arrow/log"), ("djb", "/opt/djb")] {
        std::os::unix::fs::symlink(target, root.0.join("var/hvmail").join(link)).unwrap();
    }
    let host = look(&root.0, None, None).unwrap();
    let nodes: Vec<_> =
        host.options.nodes.iter().map(|one| (one.name.as_str(), one.address.as_deref().unwrap())).collect();
    assert_eq!(nodes, [("n1", "192.0.2.1"), ("n2", "2001:db8::2")]);
    assert_eq!(host.options.drbd, ["mail", "web"]);
    let mounts: Vec<_> =
        host.options.mounts.iter().map(|one| (one.directory.as_str(), one.options.as_deref())).collect();
    assert_eq!(mounts, [("/srv/green arrow", Some("noatime")), ("/web", None)]);
    assert_eq!(host.options.database.as_deref(), Some("/var/hvmail/postgres/default/data"));
    assert_eq!(host.options.settings[0].value, "daemontools");
    assert_eq!(host.options.services.as_deref(), Some("hvmail-*"));
    assert_eq!(host.unseen.len(), 1, "{:?}", host.unseen);
    assert!(host.unseen[0].contains("djb -> /opt/djb") && !host.unseen[0].contains("log ->"), "{:?}", host.unseen);
    host.options.check().unwrap();
}

#[test]
fn what_is_not_there_is_said() {
    let root = Root::new("empty");
    let host = look(&root.0, None, None).unwrap();
    assert_eq!(host.options, Options::default());
    let said = host.unseen.join("\n");
    for word in ["the nodes", "etc/fstab", "proc/mounts", "hvmail_primary_ips", "no GreenArrow"] {
        assert!(said.contains(word), "{said}");
    }
    let found = Found { nodes: ["a", "b"].map(str::to_owned).into(), ..Found::default() };
    let host = look(&root.0, None, Some(&found)).unwrap();
    assert_eq!(host.options.nodes[1], Node { name: "b".to_owned(), address: None });
}

#[test]
fn drbdadm_is_believed_before_the_file() {
    let root = Root::new("dump");
    root.file("etc/drbd.conf", "resource other {\n");
    let dump = include_str!("../../../drbd/captures/dump.xml");
    assert_eq!(look(&root.0, Some(dump), None).unwrap().options.drbd, ["r0"]);
    assert!(look(&root.0, Some("drbdadm: error"), None).is_err());
}

#[test]
fn a_mistake_in_a_file_is_named_with_its_line() {
    let root = Root::new("mistake");
    root.file("etc/drbd.conf", "include \"drbd.d/*.res\";\n").file("etc/drbd.d/a.res", "\nresource {\n");
    let error = format!("{:#}", look(&root.0, None, None).unwrap_err());
    assert!(error.contains("a.res: line 2: \"resource {\": the name of the resource is missing"), "{error}");
    root.file("etc/drbd.d/a.res", "include \"a.res\";\n");
    assert!(format!("{:#}", look(&root.0, None, None).unwrap_err()).contains("does one include itself?"));
}
