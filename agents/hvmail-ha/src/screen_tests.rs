use std::fs;
use std::path::Path;

use super::*;
use crate::captured::picture;

/// Compares with the screen that is kept; with SNAPSHOTS=write it is written anew.
fn is_as_kept(name: &str, style: Style) {
    let shown = screen(&picture(name), style);
    let look = if style.colour { format!("{}-colour", style.width) } else { style.width.to_string() };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("captures/screens/{name}-{look}.txt"));
    if std::env::var_os("SNAPSHOTS").is_some_and(|word| word == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(&path).unwrap_or_default(), "{} (SNAPSHOTS=write)", path.display());
    if !style.colour {
        assert!(shown.lines().all(|line| line.chars().count() <= style.width), "wider than {}:\n{shown}", style.width);
        assert!(!shown.contains('\x1b'));
    }
}

#[test]
fn the_screens_are_as_they_were() {
    for name in ["healthy", "moving", "stopped", "degraded", "wrong-list", "fenced"] {
        for width in [80, 140] {
            is_as_kept(name, Style { width, colour: false });
        }
    }
    is_as_kept("wrong-list", Style { width: 80, colour: true });
}

#[test]
fn nothing_from_outside_reaches_the_terminal_as_an_order() {
    let mut picture = picture("healthy");
    picture.words[0].text = "evil \x1b[2Jtext\u{9b}31m".to_owned();
    let shown = screen(&picture, Style { width: 80, colour: false });
    assert!(shown.contains("evil ?[2Jtext?31m"), "{shown}");
}

#[test]
fn words_are_wrapped_and_long_ones_cut() {
    assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
    assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
    assert_eq!(wrapped("ä\nböö", 2), ["ä", "bö", "ö"]);
    assert_eq!(wrapped("", 10), [""]);
}
