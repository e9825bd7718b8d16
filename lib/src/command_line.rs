//! The command line: an action, and what a person may add to it.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use crate::action::Action;
use crate::metadata::About;
use crate::outcome::{Failure, Kind};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// An action by name, with the parameters set on the command line.
    Action { name: String, parameters: Vec<(String, String)> },
    /// A text for a person, to be printed as it is.
    Text(String),
}

/// Reads the arguments after the program's name. OCF 1.1 ("Invocation") lets an agent ignore all but the first; here
/// they are ignored save `-o`. clap's own exit codes never show.
pub(crate) fn read(about: &About, arguments: impl IntoIterator<Item = OsString>) -> Result<Request, Failure> {
    let words: Vec<OsString> = std::iter::once(about.name.into()).chain(arguments).collect();
    // All that Pacemaker ever says. clap would take longer over it than a monitor over its addresses.
    if let [_, word] = words.as_slice()
        && let Some(action) = word.to_str().and_then(Action::named)
    {
        return Ok(Request::Action { name: action.name().to_owned(), parameters: Vec::new() });
    }
    let read = match command(about).try_get_matches_from(&words) {
        Err(error) if error.kind() == ErrorKind::UnknownArgument => {
            command(about).ignore_errors(true).try_get_matches_from(&words)
        }
        read => read,
    };
    let matches = match read {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            return Ok(Request::Text(error.render().to_string()));
        }
        // Made only for who asks: it is the dearest part of the command line, and a monitor has no use for it.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Request::Text(format!("{}\n{}\n", error.render(), about.help())));
        }
        Err(error) => {
            let words = error.render().to_string();
            let first = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
            return Err(Failure::new(Kind::Arguments, format!("{first}; see {} --help", about.name)));
        }
    };
    if matches.get_flag("manual") {
        return Ok(Request::Text(about.manual()));
    }
    let text = |value: &OsString| value.to_string_lossy().into_owned();
    let parameters = matches.get_many("parameter").into_iter().flatten().map(|pair| {
        let pair = text(pair);
        let divided = pair.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = divided
            .ok_or_else(|| Failure::new(Kind::Arguments, format!("-o {pair:?} is wrong: name=value is expected")))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    let parameters: Vec<_> = parameters.collect::<Result<_, Failure>>()?;
    // A first word that looks like an option and is none asks for an action that there is not.
    let action = matches.get_one("action").or(words.get(1).filter(|_| parameters.is_empty())).map(text);
    let name = action.ok_or_else(|| {
        Failure::new(Kind::Arguments, format!("no action was given; {} --help lists them", about.name))
    })?;
    Ok(Request::Action { name, parameters })
}

fn command(about: &About) -> Command {
    let any_bytes = clap::value_parser!(OsString);
    Command::new(about.name)
        .version(about.version)
        .about(about.short)
        .disable_help_subcommand(true)
        .arg(Arg::new("action").value_parser(any_bytes.clone()).help("What to do; all are listed below"))
        .arg(
            Arg::new("parameter")
                .short('o')
                .value_name("NAME=VALUE")
                .value_parser(any_bytes.clone())
                .action(ArgAction::Append)
                .help("Set a parameter, for work by hand"),
        )
        .arg(Arg::new("manual").long("manual").action(ArgAction::SetTrue).help("Print the man page, for man -l -"))
        .arg(Arg::new("ignored").value_parser(any_bytes).num_args(0..).hide(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::SAMPLE;

    fn ask(arguments: &[&str]) -> Result<Request, Failure> {
        read(&SAMPLE, arguments.iter().map(OsString::from))
    }

    fn action(name: &str, parameters: &[(&str, &str)]) -> Request {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Request::Action { name: name.to_owned(), parameters: parameters.iter().map(owned).collect() }
    }

    #[test]
    fn the_first_argument_is_the_action_and_the_others_are_ignored() {
        for more in [&["monitor"] as &[_], &["monitor", "x"], &["monitor", "x", "--help-me", "-z", "--", "stop"]] {
            assert_eq!(ask(more).unwrap(), action("monitor", &[]), "{more:?}");
        }
    }

    #[test]
    fn parameters_by_hand_stand_before_or_after_the_action() {
        let expected = action("start", &[("mode", "a"), ("node", "x=y")]);
        assert_eq!(ask(&["start", "-o", "mode=a", "-o", "node=x=y"]).unwrap(), expected);
        assert_eq!(ask(&["-o", "mode=a", "-onode=x=y", "start"]).unwrap(), expected);
    }

    #[test]
    fn an_odd_action_is_an_action_still_and_answered_as_one_unknown() {
        assert_eq!(ask(&["--frobnicate"]).unwrap(), action("--frobnicate", &[]));
        assert_eq!(ask(&[""]).unwrap(), action("", &[]));
    }

    #[test]
    fn wrong_use_is_exit_2_in_one_sentence() {
        for wrong in [&[] as &[_], &["start", "-o"], &["start", "-o", "mode"], &["start", "-o", "=x"]] {
            let failure = ask(wrong).unwrap_err();
            assert_eq!(failure.kind(), Kind::Arguments, "{wrong:?}");
            assert!(!failure.reason().contains('\n'), "{}", failure.reason());
        }
    }

    #[test]
    fn help_and_version_are_texts() {
        let Request::Text(help) = ask(&["--help"]).unwrap() else { panic!("no text") };
        assert!(help.contains("NAME=VALUE") && help.contains("mode (a, b; default: a"), "{help}");
        let Request::Text(page) = ask(&["--manual"]).unwrap() else { panic!("no text") };
        assert_eq!(page, SAMPLE.manual());
        assert_eq!(ask(&["--version"]).unwrap(), Request::Text("sample 1.2.3\n".to_owned()));
    }
}
