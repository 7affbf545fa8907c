//! Prometheus' text form: for each metric two lines of comment and then its values.

use std::fmt::{self, Write};
use std::time::Duration;

/// How the values of a metric behave, in Prometheus' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// A label and its value.
pub(super) type Label<'a> = (&'a str, &'a str);

/// A page in the making. Writing to it can't fail.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a metric: its values must follow before the next one begins.
    pub(super) fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// Adds a value.
    pub(super) fn value(&mut self, name: &str, labels: &[Label<'_>], value: impl fmt::Display) {
        self.line(format_args!("{name}{} {value}", Labels(labels)));
    }

    /// Adds the values of a histogram: upper bounds with the count below each, the last of which is the count of all.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[Label<'_>],
        sum: Duration,
        buckets: impl Iterator<Item = (Option<Duration>, u64)>,
    ) {
        let mut all = 0;
        for (bound, count) in buckets {
            let bound =
                bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.line(format_args!("{name}_bucket{} {count}", Labels(&labels)));
            all = count;
        }
        self.line(format_args!("{name}_sum{} {}", Labels(labels), sum.as_secs_f64()));
        self.line(format_args!("{name}_count{} {all}", Labels(labels)));
    }

    /// The whole page.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // A string takes everything.
        self.0.write_fmt(line).unwrap_or_default();
        self.0.push('\n');
    }
}

/// `{a="1",b="2"}`, or nothing.
struct Labels<'a>(&'a [Label<'a>]);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        for (place, (name, value)) in self.0.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            write!(formatter, "{before}{name}=\"{}\"", Escaped(value))?;
        }
        formatter.write_char('}')
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => formatter.write_str("\\\\")?,
                '"' => formatter.write_str("\\\"")?,
                '\n' => formatter.write_str("\\n")?,
                other => formatter.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_their_metric_and_labels_are_quoted() {
        let mut text = Text::default();
        text.begin("a_total", Kind::Counter, "two\nlines");
        text.value("a_total", &[], 3);
        text.value("a_total", &[("b", "c\"\\\n"), ("d", "")], 0.5);
        let expected = "# HELP a_total two\\nlines\n# TYPE a_total counter\na_total 3\n\
                        a_total{b=\"c\\\"\\\\\\n\",d=\"\"} 0.5\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn the_last_bucket_of_a_histogram_counts_all() {
        let mut text = Text::default();
        let buckets = [(Some(Duration::from_millis(1)), 2), (None, 3)];
        text.histogram("h", &[("m", "x")], Duration::from_millis(2500), buckets.into_iter());
        let expected = "h_bucket{m=\"x\",le=\"0.001\"} 2\nh_bucket{m=\"x\",le=\"+Inf\"} 3\n\
                        h_sum{m=\"x\"} 2.5\nh_count{m=\"x\"} 3\n";
        assert_eq!(text.finish(), expected);
    }
}
