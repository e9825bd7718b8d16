//! The man page and the help, from the same table as the meta-data.
//!
//! Texts of the table are paragraphs divided by blank lines; a paragraph whose lines begin with four spaces is shown as
//! it stands (commands, output).

use std::fmt::Write;

use crate::metadata::About;
use crate::parameter::FOR_ALL_AGENTS;

impl About {
    /// The page `ocf_PROVIDER_NAME(7)`, in the macros of man(7).
    pub fn manual(&self) -> String {
        let mut page = Page::default();
        let title = format!("ocf_{}_{}", self.provider, self.name);
        // No date: a page made from the table changes when the table does, not when it is built.
        page.line(&format!(".TH {} 7 \"\" \"{} {}\" \"OCF resource agents\"", title, self.name, self.version));
        page.section("Name");
        page.line(&format!("{} \\- {}", escape(&title), escape(self.short)));
        page.section("Synopsis");
        page.line(&format!(".B {}", escape(self.name)));
        page.line(&format!("{} [\\fB\\-o\\fR \\fIname\\fR=\\fIvalue\\fR] ...", self.action_names().join(" | ")));
        page.section("Description");
        page.paragraphs(self.long);
        page.section("Parameters");
        self.parameters_of(&mut page);
        page.section("Actions");
        self.actions_of(&mut page);
        for (heading, text) in self.sections {
            page.section(heading);
            page.paragraphs(text);
        }
        page.section("See also");
        page.line(".BR pacemaker (7),");
        page.line(".BR crm (8),");
        page.line(".BR pcs (8)");
        page.text
    }

    /// What `--help` prints below the usage.
    pub(crate) fn help(&self) -> String {
        let mut text = format!("{}\n\nParameters (set by Pacemaker, or by hand with -o name=value):\n", self.long);
        for parameter in self.parameters.iter().chain(FOR_ALL_AGENTS) {
            let default = match parameter.default {
                Some(default) => format!(" (default: {default})"),
                None if parameter.required => " (required)".to_owned(),
                None => String::new(),
            };
            let _ = writeln!(text, "\n  {}{default}", parameter.name);
            for line in wrapped(&parameter.long_with_bounds(), 92) {
                let _ = writeln!(text, "      {line}");
            }
        }
        let _ = writeln!(text, "\nActions: {}.", self.action_names().join(", "));
        let _ = write!(text, "The manual page ocf_{}_{}(7) says more.", self.provider, self.name);
        text
    }

    fn action_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.all_actions().map(|line| line.action.name()).collect();
        names.dedup();
        names
    }

    fn parameters_of(&self, page: &mut Page) {
        for parameter in self.parameters.iter().chain(FOR_ALL_AGENTS) {
            page.line(".TP");
            let default = parameter.default.map(|default| format!(" = \\fI{}\\fR", escape(default)));
            let flags = [(parameter.required, "required"), (parameter.reloadable, "reloadable")];
            let flags: Vec<_> = flags.iter().filter(|(yes, _)| *yes).map(|(_, word)| *word).collect();
            let flags = if flags.is_empty() { String::new() } else { format!(" ({})", flags.join(", ")) };
            page.line(&format!("\\fB{}\\fR{}{flags}", escape(parameter.name), default.unwrap_or_default()));
            page.paragraphs_within(&parameter.long_with_bounds());
        }
    }

    fn actions_of(&self, page: &mut Page) {
        for line in self.all_actions() {
            let mut facts = vec![format!("timeout {} s", line.timeout)];
            facts.extend(line.interval.map(|seconds| format!("interval {seconds} s")));
            facts.extend(line.depth.map(|level| format!("check level {level}")));
            facts.extend(line.role.map(|role| format!("role {role}")));
            page.line(".TP");
            page.line(&format!("\\fB{}\\fR", escape(line.action.name())));
            page.line(&format!("Advertised with {}.", facts.join(", ")));
        }
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn section(&mut self, heading: &str) {
        self.line(&format!(".SH {}", heading.to_uppercase()));
    }

    fn paragraphs(&mut self, text: &str) {
        self.divided(text, ".PP");
    }

    /// Paragraphs that belong to a tagged one and keep its indent.
    fn paragraphs_within(&mut self, text: &str) {
        self.divided(text, ".IP");
    }

    fn divided(&mut self, text: &str, macro_between: &str) {
        let mut first = true;
        for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
            if !first {
                self.line(macro_between);
            }
            first = false;
            if paragraph.lines().all(|line| line.starts_with("    ")) {
                self.line(".nf");
                for line in paragraph.lines() {
                    self.line(&escape(&line[4..]));
                }
                self.line(".fi");
            } else {
                for line in wrapped(paragraph, 100) {
                    self.line(&escape(&line));
                }
            }
        }
    }
}

/// Takes away what troff would read as a request or an escape (groff(7), "Escapes" and "Control characters").
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::SAMPLE;

    #[test]
    fn the_page_has_every_parameter_action_and_section() {
        let page = SAMPLE.manual();
        for part in [
            ".TH ocf_greenarrow_sample 7",
            "\\fBmode\\fR = \\fIa\\fR (reloadable)",
            "\\fBnode\\fR (required)",
            "\\fBtrace_ra\\fR",
            "Advertised with timeout 20 s, interval 10 s, check level 0, role Promoted.",
            ".SH EXAMPLES\nText before.\n.PP\n.nf\n$ sample monitor\nrunning\n.fi\n.PP\nText after.",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
    }

    #[test]
    fn nothing_of_a_text_is_taken_for_a_request() {
        assert_eq!(escape(".SH evil"), "\\&.SH evil");
        assert_eq!(escape("'br"), "\\&'br");
        assert_eq!(escape("a\\b --x"), "a\\eb \\-\\-x");
    }

    #[test]
    fn the_help_names_defaults_and_bounds() {
        let help = SAMPLE.help();
        assert!(
            help.contains("mode (default: a)") && help.contains("One of: a, b.") && help.contains("node (required)")
        );
    }

    #[test]
    fn lines_break_between_words_only() {
        assert_eq!(wrapped("one two\nthree", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible a", 4), ["incomprehensible", "a"]);
    }
}
