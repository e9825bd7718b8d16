use std::fs::{create_dir_all, remove_dir_all, write};
use std::os::unix::fs::symlink;

use super::*;

fn seen(text: impl AsRef<[u8]>) -> Vec<String> {
    let one = |one: Source| {
        let address = one.address.map_or_else(|word| format!("no address {word}"), |address| address.to_string());
        format!("{} {address} line {}", one.name, one.line)
    };
    sources(text.as_ref()).into_iter().map(one).collect()
}

#[test]
fn blocks_are_read_however_they_are_laid_out() {
    for (text, expected) in [
        ("ip_address out1 {\n  smtp_source 192.0.2.1 a.example.com\n}\n", &["out1 192.0.2.1 line 2"][..]),
        ("ip_address out1 { smtp_source 192.0.2.1 a.example.com }", &["out1 192.0.2.1 line 1"]),
        ("ip_address out1\n{\nsmtp_source\n2001:db8::1 a.example.com\n}", &["out1 2001:db8::1 line 3"]),
        ("ip_address \"out 1\" {\n smtp_source \"192.0.2.1\" a;\n}", &["out 1 192.0.2.1 line 2"]),
        ("ip_address a {\n domain x { y 1 }\n smtp_source 192.0.2.1 h\n}\n", &["a 192.0.2.1 line 3"]),
        (
            "ip_address a { smtp_source 192.0.2.1 h }\nip_address b{smtp_source 192.0.2.2 h}",
            &["a 192.0.2.1 line 1", "b 192.0.2.2 line 2"],
        ),
        ("ip_address a {\r\n smtp_source default\r\n}\r\n", &["a no address default line 2"]),
    ] {
        assert_eq!(seen(text), expected, "{text:?}");
    }
}

#[test]
fn what_is_no_block_of_a_virtual_mta_is_passed_over() {
    for text in [
        "",
        "# ip_address a { smtp_source 192.0.2.1 h }",
        "  # ip_address a {\n smtp_source 192.0.2.1 h\n# }",
        "smtp_source 192.0.2.1 h",
        "ip_address a { }\nsmtp_source 192.0.2.1 h",
        "domain x { require ip_address a\n smtp_source 192.0.2.1 h }",
        "ip_address a { smtp_source }",
        "} } ip_address",
        "general { note \"ip_address a { smtp_source 192.0.2.1 h }\" }",
    ] {
        assert!(seen(text).is_empty(), "{text:?}: {:?}", seen(text));
    }
    let odd = b"\xff\xfe{{{\0\n}}}}\nip_address \x07\xff {\nsmtp_source 192.0.2.1\n}";
    assert_eq!(seen(odd), ["?\u{fffd} 192.0.2.1 line 4"]);
}

#[test]
fn files_are_named_and_links_do_not_lead_out() {
    let top = std::env::temp_dir().join(format!("hvmail-ha-mtas-{}", std::process::id()));
    let _ = remove_dir_all(&top);
    create_dir_all(top.join("control/more")).unwrap();
    create_dir_all(top.join("outside")).unwrap();
    let block = |name: &str, address: &str| format!("ip_address {name} {{\n smtp_source {address} h\n}}\n");
    write(top.join("control/greenarrow.conf"), block("one", "192.0.2.1")).unwrap();
    write(top.join("control/more/x"), block("two", "192.0.2.2")).unwrap();
    write(top.join("outside/y"), block("three", "192.0.2.3")).unwrap();
    symlink(top.join("outside"), top.join("control/link")).unwrap();
    symlink("greenarrow.conf", top.join("control/again")).unwrap();
    symlink(top.join("control"), top.join("moved")).unwrap();
    let read = VirtualMtas::read(&top.join("moved"), true);
    let at: Vec<_> = read.found.iter().map(|one| one.at.replace(top.to_str().unwrap(), "")).collect();
    assert_eq!(at, ["one (/moved/greenarrow.conf:2)", "two (/moved/more/x:2)"]);
    assert_eq!(read.odd.len(), 1, "{:?}", read.odd);
    assert!(read.odd[0].contains("link leads out of"), "{:?}", read.odd);
    assert_eq!(VirtualMtas::read(&top.join("outside/y"), true).found.len(), 1);
    assert!(VirtualMtas::read(&top.join("nowhere"), true).missing.unwrap().1);
    remove_dir_all(top).unwrap();
}
