//! Numbers in Prometheus' text format.

use std::fmt::{Display, Write};

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page(String);

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at a start; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Page {
    /// Adds a metric, with what it means.
    pub fn metric(&mut self, name: &str, kind: Kind, help: &str) -> Metric<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Metric {
            page: &mut self.0,
            name: name.to_owned(),
        }
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A metric whose values come.
#[derive(Debug)]
pub struct Metric<'a> {
    page: &'a mut String,
    name: String,
}

impl Metric<'_> {
    /// A value, with the labels that tell it from the others.
    pub fn value(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, label)| {
                let label = label.replace('\\', r"\\").replace('"', "\\\"");
                format!("{name}=\"{}\"", label.replace('\n', "\\n"))
            })
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        // To a String it does not fail.
        let _ = writeln!(self.page, "{}{labels} {value}", self.name);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let mut page = Page::default();
        let mut metric = page.metric("a_total", Kind::Counter, "How many.");
        metric.value(&[("topic", "a\"b\\c\nd"), ("x", "")], 3);
        page.metric("b", Kind::Gauge, "How full.").value(&[], 0.5);
        let expected = "# HELP a_total How many.\n# TYPE a_total counter\n\
                        a_total{topic=\"a\\\"b\\\\c\\nd\",x=\"\"} 3\n\
                        # HELP b How full.\n# TYPE b gauge\nb 0.5\n";
        assert_eq!(page.into_text(), expected);
    }
}
