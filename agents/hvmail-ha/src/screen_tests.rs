use super::*;
use crate::captured::{self, both_primary, picture};

fn is_as_kept(name: &str, picture: &Picture, style: Style) {
    let shown = screen(picture, style);
    let look = if style.colour { format!("{}-colour", style.width) } else { style.width.to_string() };
    captured::is_as_kept(&format!("{name}-{look}"), &shown);
    if !style.colour {
        assert!(shown.lines().all(|line| line.chars().count() <= style.width), "wider than {}:\n{shown}", style.width);
        assert!(!shown.contains('\x1b'));
    }
}

#[test]
fn the_screens_are_as_they_were() {
    for name in ["healthy", "moving", "stopped", "degraded", "wrong-list", "fenced"] {
        for width in [80, 140] {
            is_as_kept(name, &picture(name), Style { width, colour: false });
        }
    }
    for width in [80, 140] {
        is_as_kept("both-primary", &both_primary("n1"), Style { width, colour: false });
        is_as_kept("both-primary-there", &both_primary("n2"), Style { width, colour: false });
    }
    is_as_kept("wrong-list", &picture("wrong-list"), Style { width: 80, colour: true });
    is_as_kept("two-lists", &captured::two_lists(), Style { width: 80, colour: false });
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
