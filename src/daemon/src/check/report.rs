//! All findings, as a table for people or as JSON for programs.

use super::finding::{Finding, Verdict};
use serde_json::json;
use std::fmt::Write as _;

/// What the report looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A table, with a hint below each line that needs one.
    Table,
    /// One JSON object.
    Json,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// A report of these, in their order.
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// Whether the daemon can do its work here.
    pub(crate) fn is_good(&self) -> bool {
        self.count(Verdict::Failed) == 0
    }

    /// The report as text that ends with a line.
    pub(crate) fn text(&self, form: Form) -> String {
        match form {
            Form::Table => self.table(),
            Form::Json => {
                format!("{:#}\n", json!({ "ok": self.is_good(), "findings": self.findings }))
            }
        }
    }

    fn table(&self) -> String {
        let width = |text: fn(&Finding) -> &str| {
            self.findings.iter().map(|finding| text(finding).chars().count()).max().unwrap_or(0)
        };
        let areas = width(|finding| finding.area.name());
        let subjects = width(|finding| &finding.subject);
        let indent = WORD + 2 + areas + 2;
        let mut text = String::new();
        for finding in &self.findings {
            let Finding { area, subject, verdict, detail, hint } = finding;
            let (verdict, area) = (word(*verdict), area.name());
            let detail = detail.replace('\n', &format!("\n{:indent$}", ""));
            // Writing to a string does not fail.
            let _written =
                writeln!(text, "{verdict:WORD$}  {area:areas$}  {subject:subjects$}  {detail}");
            if let Some(hint) = hint {
                let _written = writeln!(text, "{:indent$}hint: {hint}", "");
            }
        }
        let [fine, warnings, failed] =
            [Verdict::Ok, Verdict::Warning, Verdict::Failed].map(|verdict| self.count(verdict));
        let _written = writeln!(text, "\n{fine} ok, {warnings} warnings, {failed} failed");
        text
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// The width of the first column.
const WORD: usize = 4;

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warn",
        Verdict::Failed => "FAIL",
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Area;
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Finding::fine(Area::Daemon, "user", "root"),
            Finding::warning(Area::Directories, "root", "little space", "make room"),
        ])
    }

    #[test]
    fn columns_are_aligned_and_hints_stand_below() {
        let expected = "\
ok    daemon       user  root
warn  directories  root  little space
                   hint: make room

1 ok, 1 warnings, 0 failed
";
        assert_eq!(report().text(Form::Table), expected);
    }

    #[test]
    fn a_warning_is_good_enough_and_a_failure_is_not() {
        let mut report = report();
        assert!(report.is_good());
        report.findings.push(Finding::failure(Area::Kernel, "x", "y", "z"));
        assert!(!report.is_good());
        let json: serde_json::Value = serde_json::from_str(&report.text(Form::Json)).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["findings"][0]["hint"], serde_json::Value::Null);
        assert_eq!(json["findings"][2]["verdict"], "failed");
        assert_eq!(json["findings"][2]["area"], "kernel");
    }
}
