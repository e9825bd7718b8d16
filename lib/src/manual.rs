//! The man page, from the same table as the meta-data.
//!
//! Texts of the table are paragraphs divided by blank lines; a paragraph whose lines begin with four spaces is shown as
//! it stands (commands, output).

use crate::action::{Action, Advertised};
use crate::metadata::About;
use crate::parameter::{FOR_ALL_AGENTS, Parameter};

/// Of the lines in the file, not on the screen: they are there for whoever reads a diff.
const SOURCE_WIDTH: usize = 72;

impl About {
    /// The page `ocf_PROVIDER_NAME(7)`, in the macros of man(7).
    pub fn manual(&self) -> String {
        let title = format!("ocf_{}_{}", self.provider, self.name);
        let source = format!("{} {}", self.name, self.version);
        let mut page = Page::default();
        page.line(&format!(".TH {title} 7 \"{}\" \"{source}\" \"OCF resource agents\"", self.revised));
        // No hyphens, ragged right, one space between sentences: parameters and paths stay as they are typed.
        for request in [".nh", ".ad l", ".ss 12 0"] {
            page.line(request);
        }
        page.section("Name");
        page.line(&format!("{title} \\- {}", escape(self.short)));
        self.synopsis(&mut page);
        page.section("Description");
        page.paragraphs(self.long);
        self.parameters_of(&mut page);
        self.actions_of(&mut page);
        for (heading, text) in self.sections {
            page.section(heading);
            page.paragraphs(text);
        }
        page.section("See also");
        page.line(".BR crm_resource (8),\n.BR crm (8),\n.BR pcs (8),\n.BR pacemakerd (8)");
        page.text
    }

    fn synopsis(&self, page: &mut Page) {
        let name = escape(self.name);
        page.section("Synopsis");
        page.line(&format!("\\fB{name}\\fR \\fIaction\\fR [\\fB\\-o\\fR \\fIparameter\\fR=\\fIvalue\\fR] ..."));
        page.line(".br");
        page.line(&format!("\\fB{name}\\fR {{\\fB\\-\\-help\\fR | \\fB\\-\\-manual\\fR | \\fB\\-\\-version\\fR}}"));
    }

    fn parameters_of(&self, page: &mut Page) {
        page.section("Parameters");
        page.paragraphs(
            "In the cluster's configuration, parameters of the resource; by hand, with -o. Where a reloadable one \
             changes, the resource is not restarted.",
        );
        for parameter in self.parameters.iter().chain(FOR_ALL_AGENTS) {
            page.line(".TP");
            page.line(&format!("\\fB{}\\fR{}", escape(parameter.name), escape(&parameter.facts())));
            page.paragraphs_within(parameter.long);
        }
    }

    fn actions_of(&self, page: &mut Page) {
        page.section("Actions");
        page.paragraphs(
            "The timeouts and intervals are the recommended ones; a tool that makes a resource from the meta-data \
             takes them over.",
        );
        for action in self.all_actions() {
            page.line(".TP");
            page.line(&format!("\\fB{}\\fR", escape(action.name())));
            page.line(&escape(action.purpose()));
            for advertised in self.advertised(action) {
                page.line(".br");
                page.line(&escape(&advertised.facts()));
            }
        }
    }

    /// What `--help` prints below the usage.
    pub(crate) fn help(&self) -> String {
        const WIDTH: usize = 80;
        let mut lines = Vec::new();
        for paragraph in self.long.split("\n\n") {
            lines.extend(wrapped(paragraph, WIDTH));
            lines.push(String::new());
        }
        lines.push("Actions:".to_owned());
        for action in self.all_actions() {
            lines.push(format!("  {:12}  {}", action.name(), action.purpose()));
        }
        lines.push("\nParameters (of the resource in the cluster; -o NAME=VALUE by hand):".to_owned());
        for parameter in self.parameters.iter().chain(FOR_ALL_AGENTS) {
            lines.push(format!("\n  {}{}", parameter.name, parameter.facts()));
            lines.extend(wrapped(parameter.long, WIDTH - 6).iter().map(|line| format!("      {line}")));
        }
        let page = format!("ocf_{}_{}(7)", self.provider, self.name);
        lines.push(format!("\nThe man page {page} says more; without the package: {} --manual | man -l -", self.name));
        lines.join("\n")
    }
}

impl Parameter {
    /// What stands behind its name: values, default and flags in parentheses.
    fn facts(&self) -> String {
        let facts = [
            self.content.values(),
            self.default.map(|default| format!("default: {default}")),
            self.required.then(|| "required".to_owned()),
            self.reloadable.then(|| "reloadable".to_owned()),
        ];
        let facts: Vec<_> = facts.into_iter().flatten().collect();
        if facts.is_empty() { String::new() } else { format!(" ({})", facts.join("; ")) }
    }
}

impl Advertised {
    /// When it is run and how long it may take, as a sentence.
    fn facts(&self) -> String {
        let mut facts = Vec::new();
        facts.extend(self.role.map(|role| format!("role {role}")));
        facts.extend(self.depth.map(|level| format!("check level {level}")));
        facts.extend(self.interval.map(|seconds| format!("every {seconds} s")));
        facts.push(format!("timeout {} s", self.timeout));
        let sentence = facts.join(", ");
        format!("{}{}.", sentence[..1].to_uppercase(), &sentence[1..])
    }
}

impl About {
    /// Each action once, in the order of the table.
    fn all_actions(&self) -> Vec<Action> {
        let mut actions: Vec<_> = self.all_advertised().map(|line| line.action).collect();
        actions.dedup();
        actions
    }

    fn advertised(&self, action: Action) -> impl Iterator<Item = Advertised> {
        self.all_advertised().filter(move |line| line.action == action)
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
        self.line(&format!(".SH {}", escape(&heading.to_uppercase())));
    }

    fn paragraphs(&mut self, text: &str) {
        self.divided(text, ".PP");
    }

    /// Paragraphs that belong to a tagged one and keep its indent.
    fn paragraphs_within(&mut self, text: &str) {
        self.divided(text, ".IP");
    }

    fn divided(&mut self, text: &str, macro_between: &str) {
        for (number, paragraph) in text.split("\n\n").enumerate() {
            if number > 0 {
                self.line(macro_between);
            }
            if paragraph.lines().all(|line| line.starts_with("    ")) {
                self.line(".RS 4\n.nf");
                for line in paragraph.lines() {
                    self.line(&escape(&line[4..]));
                }
                self.line(".fi\n.RE");
            } else {
                for line in wrapped(paragraph, SOURCE_WIDTH) {
                    self.line(&escape(&line));
                }
            }
        }
    }
}

/// Takes away what troff would read as a request or an escape, and keeps the characters of commands what they are
/// (groff_char(7), "Keyboard character translations").
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (place, character) in text.chars().enumerate() {
        match character {
            '.' if place == 0 => escaped.push_str("\\&."),
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
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
            ".TH ocf_greenarrow_sample 7 \"2026-11-22\" \"sample 1.2.3\"",
            "\\fBmode\\fR (a, b; default: a; reloadable)\nWhat to do.",
            "\\fBnode\\fR (required)",
            "\\fBtrace_ra\\fR",
            "\\fBmonitor\\fR\nSays in which state the resource is.\n.br\nRole Promoted, check level 0, every 10 s",
            ".SH EXAMPLES\nText before.\n.PP\n.RS 4\n.nf\n$ sample monitor\nrunning\n.fi\n.RE\n.PP\nText after.",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
    }

    #[test]
    fn nothing_of_a_text_is_taken_for_a_request() {
        assert_eq!(escape(".SH evil"), "\\&.SH evil");
        assert_eq!(escape("'br"), "\\(aqbr");
        assert_eq!(escape("a\\b --x"), "a\\eb \\-\\-x");
    }

    #[test]
    fn the_help_names_defaults_values_and_actions() {
        let help = SAMPLE.help();
        for part in
            ["mode (a, b; default: a; reloadable)\n      What to do.", "node (required)", "  start         Makes "]
        {
            assert!(help.contains(part), "{part} is missing in\n{help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }

    #[test]
    fn lines_break_between_words_only() {
        assert_eq!(wrapped("one two\nthree", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible a", 4), ["incomprehensible", "a"]);
    }
}
