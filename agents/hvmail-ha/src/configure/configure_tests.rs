use super::*;
use crate::configure::model::tests::{full, minimal};

/// Compares with the text that is kept; with SNAPSHOTS=write it is written anew.
#[test]
fn the_configurations_are_as_they_were() {
    for (name, options) in [("full", full()), ("minimal", minimal())] {
        for form in [Form::Crm, Form::Pcs, Form::Xml] {
            let printed = print(&Model::of(&options).unwrap(), form).unwrap();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("captures/configure/{name}.{}", form.word()));
            if std::env::var_os("SNAPSHOTS").is_some_and(|word| word == "write") {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &printed).unwrap();
            }
            assert_eq!(printed, fs::read_to_string(&path).unwrap_or_default(), "{} (SNAPSHOTS=write)", path.display());
        }
    }
}

/// The comment of XML ends at two hyphens, and a value must not end its attribute.
#[test]
fn the_xml_is_one_document_whatever_the_values_are() {
    let without = Options { fences: Vec::new(), without_fencing: true, fencing_delay: None, ..full() };
    for options in [full(), minimal(), without] {
        let root = crate::xml::Element::parse(&xml::print(&Model::of(&options).unwrap())).unwrap();
        let comment = xml::print(&Model::of(&options).unwrap());
        let comment = comment.split("<!--").nth(1).and_then(|rest| rest.split("-->").next()).unwrap();
        assert!(!comment.contains("--"), "{comment}");
        let password = root.all("nvpair").into_iter().find(|one| one.get("name") == "password");
        assert!(password.is_none_or(|one| one.get("value") == "it's \"a\" $x & <y>"));
    }
}

#[test]
fn crm_is_given_no_letters_that_it_would_spoil() {
    let mut options = full();
    options.fences[0].parameters[1].1 = "größer".to_owned();
    let model = Model::of(&options).unwrap();
    assert!(print(&model, Form::Crm).unwrap_err().to_string().contains("--pcs or --xml"));
    assert!(print(&model, Form::Pcs).unwrap().contains("password='größer'"));
}

fn typed(words: &[&str], host: Options) -> Result<Options> {
    options(&command().try_get_matches_from([&["configure"], words].concat())?, host)
}

#[test]
fn what_is_said_goes_before_what_the_host_has() {
    let host = full();
    let same = Options { fences: host.fences.clone(), ..typed(&["--from-host"], host.clone()).unwrap() };
    assert_eq!(same, host);
    let words = ["--from-host", "--drbd=web", "--mount=none", "--database=none", "--services=mta-*", "--ip-file"];
    let other = typed(&words, host).unwrap();
    assert_eq!((other.drbd, other.mounts.len(), other.database), (vec!["web".to_owned()], 0, None));
    assert_eq!((other.services.as_deref(), other.ip_file.as_deref()), (Some("mta-*"), Some("/etc/hvmail_primary_ips")));
    assert!(!other.settings.iter().any(|one| one.agent == "postgresql"));
    let set = typed(&["--from-host", "--set", "postgresql:control=pg_ctl"], full()).unwrap();
    let control: Vec<_> =
        set.settings.iter().filter(|one| one.name == "control").map(|one| one.value.as_str()).collect();
    assert_eq!(control, ["pg_ctl"]);
}

#[test]
fn one_form_at_a_time() {
    assert!(typed(&["--crm", "--pcs"], Options::default()).is_err());
    assert!(typed(&["--cib", "x"], Options::default()).is_err());
    let error = typed(&["--ip-file=etc"], Options::default()).unwrap_err();
    assert!(format!("{error:#}").contains("--ip-file: \"etc\": an absolute path"), "{error:#}");
}
