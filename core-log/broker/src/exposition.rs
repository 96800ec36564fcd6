//! Prometheus' text format, written family by family.
//!
//! A scrape of state writes what exists now, so series of deleted topics and groups end by themselves; a recorder
//! that remembers every series ever set cannot do that.
//!
//! Invariant: the samples of a family stand together behind its HELP and TYPE, as the format demands.

use std::fmt::Write;

use crate::metric_defs::MetricDef;

/// A text in Prometheus' exposition format, version 0.0.4, that grows.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The family whose samples are being written.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    def: &'static MetricDef,
}

impl Exposition {
    /// Begins a family; its samples follow through the returned value.
    pub fn family(&mut self, def: &'static MetricDef) -> Family<'_> {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {} {}", def.name, def.help);
        let _ = writeln!(self.text, "# TYPE {} {}", def.name, def.kind.word());
        Family {
            text: &mut self.text,
            def,
        }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, def: &'static MetricDef, value: f64) {
        self.family(def).sample(&[], value);
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// One sample; `labels` are the values of the family's labels, in the table's order.
    pub fn sample(&mut self, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), self.def.labels.len(), "{}", self.def.name);
        self.text.push_str(self.def.name);
        for (at, (name, value)) in self.def.labels.iter().zip(labels).enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(value, self.text);
            self.text.push('"');
        }
        if !self.def.labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn escape(value: &str, text: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric_defs::gauge;

    #[test]
    fn families_have_help_type_and_escaped_labels() {
        static DEF: MetricDef = gauge("lag", &["consumergroup", "topic"], "Behind.");
        let mut exposition = Exposition::default();
        let mut family = exposition.family(&DEF);
        family.sample(&["a\"b\\c\nd", "t"], 12.0);
        family.sample(&["g", "t"], 0.5);
        assert_eq!(
            exposition.into_text(),
            "# HELP lag Behind.\n# TYPE lag gauge\nlag{consumergroup=\"a\\\"b\\\\c\\nd\",topic=\"t\"} 12\n\
             lag{consumergroup=\"g\",topic=\"t\"} 0.5\n"
        );
    }
}
