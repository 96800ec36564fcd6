//! The value of `sasl.jaas.config`: a login module's class, its flag, and options; only the options matter here.

use std::collections::BTreeMap;

/// `Class required name="value" name=value;`
pub(super) struct Jaas {
    /// The last part of the class's name, such as `PlainLoginModule`.
    pub(super) module: String,
    pub(super) options: BTreeMap<String, String>,
}

impl Jaas {
    /// Gives what is wrong, without any of the text: it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut words = words(text)?.into_iter();
        let class = words.next().ok_or("it is empty")?;
        let module = class.rsplit('.').next().unwrap_or_default().to_owned();
        let flag = words.next().unwrap_or_default();
        if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_lowercase().as_str()) {
            return Err("the class of the login module is followed by `required`");
        }
        let mut options = BTreeMap::new();
        while let Some(name) = words.next() {
            match (words.next().as_deref(), words.next()) {
                (Some("="), Some(value)) => options.insert(name, value),
                _ => return Err("options are written name=\"value\""),
            };
        }
        Ok(Self { module, options })
    }
}

/// Words, quoted strings and equals signs up to the closing semicolon.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        match chars.next() {
            None => return Err("it ends without a semicolon"),
            Some(';') if chars.all(char::is_whitespace) => return Ok(words),
            Some(';') => return Err("it holds more than one login module"),
            Some('=') => words.push("=".to_owned()),
            Some(quote @ ('"' | '\'')) => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        None => return Err("a quoted value has no end"),
                        Some('\\') => word.extend(chars.next()),
                        Some(c) if c == quote => break,
                        Some(c) => word.push(c),
                    }
                }
                words.push(word);
            }
            Some(c) if c.is_whitespace() => {}
            Some(c) => {
                let mut word = String::from(c);
                while let Some(c) =
                    chars.next_if(|c| !c.is_whitespace() && !matches!(c, '=' | ';' | '"' | '\''))
                {
                    word.push(c);
                }
                words.push(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_and_options_are_read_whatever_is_in_the_quotes() {
        let jaas = Jaas::parse(
            "org.apache.kafka.common.security.plain.PlainLoginModule required\n  username=\"alice\" password=\"a;b=\\\"c\\\\\" \
             serviceName=kafka;",
        )
        .expect("reads");
        assert_eq!(jaas.module, "PlainLoginModule");
        assert_eq!(jaas.options["username"], "alice");
        assert_eq!(jaas.options["password"], "a;b=\"c\\");
        assert_eq!(jaas.options["serviceName"], "kafka");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        for (text, problem) in [
            ("", "semicolon"),
            (";", "empty"),
            ("x.PlainLoginModule username=\"a\";", "required"),
            ("x.PlainLoginModule required username=\"a\"", "semicolon"),
            ("x.PlainLoginModule required username=\"a;", "no end"),
            ("x.PlainLoginModule required username;", "name=\"value\""),
            ("x.A required; x.B required;", "more than one"),
        ] {
            let why = Jaas::parse(text).err().expect(text);
            assert!(why.contains(problem), "{text}: {why}");
        }
    }
}
