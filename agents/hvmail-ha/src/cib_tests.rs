use super::*;
use crate::captured::text;

fn configuration(name: &str) -> Configuration {
    Configuration::parse(&text(&format!("{name}.cib.xml"))).unwrap()
}

#[test]
fn the_resources_of_a_pair_are_read() {
    let configuration = configuration("healthy");
    let roles: Vec<_> =
        configuration.roles().map(|one| (one.id.as_str(), one.promotable.as_deref().unwrap())).collect();
    let mut sorted = roles.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [("ips", "ips-clone"), ("pg", "pg-clone"), ("services", "services-clone")]);
    let pg = configuration.of_agent("postgresql").unwrap();
    assert_eq!(pg.parameter("primary_hosts"), Some("n1:10.78.0.11 n2:10.78.0.12"));
    assert_eq!((configuration.leftovers.len(), &configuration.stopped, configuration.trusts_unseen), (0, &None, false));
}

#[test]
fn what_somebody_took_out_of_the_clusters_hands_is_inherited() {
    let clone = |outer: &str, inner: &str| {
        let text = format!(
            "<c><resources><clone id=\"x-clone\"><meta_attributes id=\"m\"><nvpair name=\"promotable\" value=\"True\"/>{outer}\
             </meta_attributes><primitive id=\"x\"><meta_attributes id=\"n\">{inner}</meta_attributes></primitive></clone>\
             </resources></c>"
        );
        let found = Configuration::parse(&text).unwrap().resources.remove(0);
        assert_eq!(found.promotable.as_deref(), Some("x-clone"));
        found.unmanaged.map(|meta| (meta.of, meta.word))
    };
    let (no, hands_off) =
        ("<nvpair name=\"is-managed\" value=\"No\"/>", "<nvpair name=\"maintenance\" value=\"true\"/>");
    let told = |of: &str, word: &str| Some((of.to_owned(), word.to_owned()));
    assert_eq!(clone(no, ""), told("x-clone", "is-managed"));
    assert_eq!(clone("", hands_off), told("x", "maintenance"));
    assert_eq!(clone("", "<nvpair name=\"is-managed\" value=\"true\"/>"), None);
}

/// By a colocation in either direction, by a set, or by the group that it is in; not by a wish, nor by an order alone.
#[test]
fn what_is_tied_to_a_role_follows_it() {
    let primitive = |id: &str| format!("<primitive id=\"{id}\"/>");
    let (fs, mail, nfs, mail_2) = (primitive("fs"), primitive("mail"), primitive("nfs"), primitive("mail-2"));
    let text = format!(
        "<c><resources><clone id=\"d-clone\"><meta_attributes id=\"m\"><nvpair name=\"promotable\" value=\"true\"/>\
         </meta_attributes><primitive id=\"d\"/></clone>{fs}<group id=\"g\">{mail}{mail_2}</group>{nfs}<primitive id=\"wish\"/>\
         <primitive id=\"apart\"/></resources><constraints><rsc_colocation rsc=\"fs\" with-rsc=\"d-clone\" score=\"INFINITY\"/>\
         <rsc_colocation rsc=\"wish\" with-rsc=\"d-clone\" score=\"100\"/><rsc_order first=\"apart\" then=\"d-clone\"/>\
         <rsc_colocation score=\"INFINITY\"><resource_set><resource_ref id=\"mail\"/><resource_ref id=\"fs\"/></resource_set>\
         </rsc_colocation><rsc_colocation rsc=\"g\" with-rsc=\"nfs\"/></constraints></c>"
    );
    let found = Configuration::parse(&text).unwrap();
    let follow: Vec<_> = found.resources.iter().filter(|one| one.follows).map(|one| one.id.as_str()).collect();
    assert_eq!(follow, ["fs", "mail", "mail-2", "nfs"]);
    assert_eq!(found.chain().count(), 5);
}

#[test]
fn what_commands_have_left_is_found() {
    let configuration = configuration("moving");
    let left: Vec<_> = configuration.own_moves().collect();
    assert_eq!(left.len(), 2);
    assert_eq!((left[0].by.as_deref(), left[0].node.as_deref()), (Some("n1"), Some("n2")));
    assert_eq!((left[0].until, left[1].until), (Some(1_893_459_600), None));
    let theirs = "<c><rsc_location id=\"cli-ban-x-on-n1\" rsc=\"x\" node=\"n1\" score=\"-INFINITY\"/>\
        <rsc_location id=\"cli-prefer-y\" rsc=\"y\"/><rsc_location id=\"office-hours\" rsc=\"z\"/></c>";
    let found = Configuration::parse(theirs).unwrap().leftovers;
    assert_eq!(found.iter().map(|one| one.resource.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(found[0].by, None);
}

#[test]
fn the_mark_of_a_stop_names_the_last_primary() {
    assert_eq!(configuration("stopped").stopped, Some(Stopped { last_primary: "n2".to_owned() }));
}

#[test]
fn what_is_written_is_read_again() {
    let until = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let xml = preference("node-1.example", "n2", &["pg-clone", "a\"<b"], &["fs"], until);
    assert_eq!(xml.matches("role=\"Promoted\"").count(), 2, "{xml}");
    let found = Configuration::parse(&xml).unwrap().leftovers;
    assert_eq!(found.len(), 3);
    for (one, resource) in found.iter().zip(["pg-clone", "a\"<b", "fs"]) {
        assert_eq!((one.resource.as_str(), one.by.as_deref()), (resource, Some("node-1.example")));
        assert_eq!((one.node.as_deref(), one.until), (Some("n2"), Some(1_800_000_000)));
    }
    let stopped = Configuration::parse(&stop_marks("n1", &["pg-clone"])).unwrap().stopped;
    assert_eq!(stopped, Some(Stopped { last_primary: "n1".to_owned() }));
}

#[test]
fn what_a_node_lacks_is_read_with_who_says_so() {
    let text = "<configuration><nodes><node id=\"1\" uname=\"n1\"/><node id=\"2\" uname=\"n2\"><instance_attributes id=\"nodes-2\">\
        <nvpair id=\"a\" name=\"standby\" value=\"off\"/><nvpair id=\"b\" name=\"pg-lacks\" value=\"n1\"/></instance_attributes>\
        </node></nodes><resources><primitive id=\"pg\" class=\"ocf\" provider=\"greenarrow\" type=\"postgresql\"/></resources>\
        </configuration>";
    let word = Lacks { node: "n2".to_owned(), resource: "pg".to_owned(), author: "n1".to_owned() };
    assert_eq!(Configuration::parse(text).unwrap().lacks, [word]);
    assert!(configuration("healthy").lacks.is_empty());
}

#[test]
fn whom_drbd_keeps_from_the_role_is_read() {
    let of = |id: &str, rule: &str| {
        let expression = "<expression attribute=\"#uname\" operation=\"ne\" value=\"N1\" id=\"e\"/>";
        let text =
            format!("<c><rsc_location rsc=\"d-clone\" id=\"{id}\"><rule {rule}>{expression}</rule></rsc_location></c>");
        Configuration::parse(&text).unwrap().fences
    };
    let rule = |role: &str| format!("role=\"{role}\" score=\"-INFINITY\" id=\"r\"");
    for role in ["Master", "Promoted"] {
        let found = of("drbd-fence-by-handler-r0-d-clone", &rule(role)).remove(0);
        assert_eq!((found.resource.as_str(), found.rejects("n1"), found.rejects("n2")), ("d-clone", false, true));
    }
    assert!(of("drbd-fence-by-handler-r0-d-clone", "role=\"Promoted\" score=\"100\" id=\"r\"").is_empty());
    assert!(of("office-hours", &rule("Promoted")).is_empty());
}
