use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

/// Gives an order to a shell, as sshd does.
fn obeyed(order: &str, input: &str) -> (Option<i32>, String) {
    let output = Program::new("sh").args(["-c", order]).input(input).run(Deadline::after(PATIENCE)).unwrap();
    (output.status.code(), output.stdout + &output.stderr)
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("hvmail-ha-ssh-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).unwrap();
    path
}

fn names(directory: &PathBuf) -> Vec<String> {
    let mut all: Vec<_> =
        fs::read_dir(directory).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

fn put_order(path: &str, new: &str, old: &str) -> String {
    let old = if old == NONE { NONE.to_owned() } else { digest(old.as_bytes()).unwrap() };
    order(PUT, &[path, &digest(new.as_bytes()).unwrap(), &old]).unwrap()
}

#[test]
fn a_file_is_replaced_with_its_mode_and_the_one_before_is_kept() {
    let directory = directory("replaced");
    let path = directory.join("list");
    let text = path.to_str().unwrap();
    let (status, said) = obeyed(&put_order(text, "one\n", NONE), "one\n");
    assert_eq!((status, first_word(&said).unwrap()), (Some(0), digest(b"one\n").unwrap()), "{said}");
    assert_eq!(names(&directory), ["list"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    for (new, old) in [("two\n", "one\n"), ("three\n", "two\n")] {
        assert_eq!(obeyed(&put_order(text, new, old), new).0, Some(0));
        assert_eq!(fs::read_to_string(&path).unwrap(), new);
        assert_eq!(fs::read_to_string(directory.join("list.bak")).unwrap(), old);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
    assert_eq!(names(&directory), ["list", "list.bak"]);
    let (status, said) = obeyed(&order(FETCH, &[text]).unwrap(), "");
    assert_eq!((status, said), (Some(0), format!("{}  -\nthree\n", digest(b"three\n").unwrap())));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_came_in_part_what_was_changed_and_a_link_are_left_alone() {
    let directory = directory("refused");
    let path = directory.join("list");
    let text = path.to_str().unwrap();
    fs::write(&path, "one\n").unwrap();
    for (order, status, word) in [
        (put_order(text, "two\nthree\n", "one\n"), 6, "it did not arrive whole"),
        (put_order(text, "two\n", "other\n"), 5, "was changed there meanwhile"),
        (put_order(text, "two\n", NONE), 5, "was changed there meanwhile"),
    ] {
        let (found, said) = obeyed(&order, "two\n");
        assert_eq!(found, Some(status), "{said}");
        assert!(said.contains(word), "{said}");
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), names(&directory)),
            ("one\n", vec!["list".to_owned()])
        );
    }
    let link = directory.join("link");
    symlink(&path, &link).unwrap();
    let (status, said) = obeyed(&put_order(link.to_str().unwrap(), "two\n", "one\n"), "two\n");
    assert_eq!(status, Some(8), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    let order = |path: &str| order(FETCH, &[path]).unwrap();
    assert_eq!(obeyed(&order(directory.join("none").to_str().unwrap()), "").0, Some(NO_FILE));
    assert_eq!(obeyed(&order(directory.to_str().unwrap()), "").0, Some(8));
    fs::remove_dir_all(directory).unwrap();
}

/// As when push is killed: less comes in than was to, and nobody reads what is said of it.
#[test]
fn a_file_that_did_not_come_whole_is_not_left_when_nobody_listens() {
    let directory = directory("unheard");
    let path = directory.join("list");
    fs::write(&path, "one\n").unwrap();
    let put = put_order(path.to_str().unwrap(), "two\nthree\n", "one\n");
    let (status, said) = obeyed(&format!("{{ sleep 0.3; echo two; }} | {put} 2>&1 | true"), "");
    assert_eq!((status, said.as_str()), (Some(0), ""));
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(&directory)), ("one\n", vec!["list".to_owned()]));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn no_shell_reads_anything_into_a_path_or_a_name() {
    for path in ["list", "/etc/$(id)", "/etc/a b", "/etc/a'b", "/etc/../shadow", "/etc/a;b", "/etc/é", "", "/a\nb"] {
        assert!(order(FETCH, &[path]).is_err(), "{path:?}");
    }
    for script in [FETCH, PUT] {
        assert!(!script.contains(['\'', '\n']), "{script}");
    }
    for node in ["", "-oProxyCommand=x", "n1;x", "root@n1 x"] {
        assert!(arguments(node, String::new()).is_err(), "{node:?}");
    }
    let words = arguments("n2", "order".to_owned()).unwrap();
    assert_eq!(words[..4], ["-o", "BatchMode=yes", "-o", CONNECT]);
    assert_eq!(words[words.len() - 3..], ["--", "n2", "order"]);
}
