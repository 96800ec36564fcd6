//! The documented file: every key with its default, from the tables. Committed as `docs/highwater.toml`.

use std::fmt::Write;

use highwater_cluster::config_defs::{BROKER_CONFIGS, ConfigDef, ConfigType, UpdateMode};

use super::settings::{Kind, SETTINGS, SettingDef, sections};

/// Columns of a comment.
const WIDTH: usize = 110;

/// The text. Keys with a default are commented out, so the file as it is means "data_dir, and defaults".
pub(crate) fn text() -> String {
    let mut text = String::from(
        "# Every key of `highwater server -c FILE` with its default; `highwater server --print-reference-config` prints\n\
         # this. `highwater check-config -c FILE` says what would be used and what is wrong. A key is also set by the\n\
         # variable named beside it, which wins over the file; a property by HIGHWATER_PROPERTY_ and its name in\n\
         # capitals with underscores, such as HIGHWATER_PROPERTY_LOG_RETENTION_HOURS.\n",
    );
    // Writing to a string cannot fail, here and below.
    for section in sections() {
        let _ = writeln!(text, "\n[{section}]");
        for def in SETTINGS.iter().filter(|def| def.section() == section) {
            setting(def, &mut text);
        }
    }
    text.push_str(
        "\n# Kafka's broker configs, under Kafka's names. Those that can change at run time are also set by\n\
         # kafka-configs.sh and any client's AlterConfigs, which wins over this file.\n[properties]\n",
    );
    for def in BROKER_CONFIGS {
        property(def, &mut text);
    }
    text
}

fn setting(def: &SettingDef, text: &mut String) {
    comment(def.doc, text);
    let need = if def.is_required { "Required; " } else { "" };
    comment(
        &format!("{need}{}. {}", def.kind.expected(), def.variable()),
        text,
    );
    let off = if def.is_required { "" } else { "#" };
    let value = match def.kind {
        Kind::Paths => "[]".to_owned(),
        Kind::Bytes | Kind::Milliseconds => def.example.to_owned(),
        Kind::Protocols => format!("[\"{}\"]", def.example),
        Kind::Path | Kind::Address | Kind::Listeners | Kind::Advertised | Kind::Text | Kind::OneOf(_) => {
            format!("\"{}\"", def.example)
        }
    };
    let _ = writeln!(text, "{off}{} = {value}", def.key());
}

fn property(def: &ConfigDef, text: &mut String) {
    comment(def.doc, text);
    let when = match def.update {
        UpdateMode::ReadOnly => "Read at start",
        UpdateMode::ClusterWide => "Changes at run time",
    };
    let expected = def.expected();
    let expected = expected.strip_prefix("expected ").unwrap_or(&expected);
    comment(&format!("{when}; {expected}."), text);
    let value = match (def.default, def.config_type) {
        (None, _) => String::new(),
        (Some(value), ConfigType::Boolean | ConfigType::Int | ConfigType::Long | ConfigType::Double) => {
            value.to_owned()
        }
        (Some(value), ConfigType::String | ConfigType::List) => format!("\"{value}\""),
    };
    let _ = writeln!(text, "{}", format!("#\"{}\" = {value}", def.name).trim_end());
}

fn comment(words: &str, text: &mut String) {
    let mut line = String::from("#");
    for word in words.split_ascii_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::from_text;

    #[test]
    fn the_reference_is_a_configuration_with_every_value_the_default() {
        // With the comment signs of keys taken away, every line is a key that says what is the case anyway.
        let uncommented: String = text()
            .lines()
            .filter(|line| !line.ends_with('='))
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let loaded = from_text("reference", &uncommented, &BTreeMap::new());
        assert_eq!(loaded.problems, []);
        let plain = from_text("reference", &text(), &BTreeMap::new());
        for (set, default) in loaded.resolved.iter().zip(&plain.resolved) {
            assert_eq!(set.name, default.name);
            let is_example = ["listeners.advertised", "listeners.protocols"].contains(&set.name.as_str());
            assert!(is_example || set.value == default.value, "{}", set.name);
        }
    }
}
