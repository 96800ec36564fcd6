//! The model of the schema table: APIs, messages, fields, version ranges.
//!
//! Invariants: ranges are inclusive and not empty; a field's children are the fields of the struct its type names, and
//! only struct types have children.

use std::collections::BTreeSet;
use std::fmt;

/// The highest version a range can name; what `3+` ends at.
pub(crate) const OPEN_END: i16 = i16::MAX;

/// Inclusive range of message versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Versions {
    /// Versions in both ranges.
    pub(crate) fn intersect(self, other: Versions) -> Option<Versions> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (first <= last).then_some(Versions { first, last })
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    /// Rust condition that says "`version` is in this range", given that it is in `known`; `None` when it always is.
    pub(crate) fn condition_within(self, known: Versions) -> Option<String> {
        let above = self.first > known.first;
        let below = self.last < known.last;
        match (above, below) {
            (false, false) => None,
            (true, false) => Some(format!("version >= {}", self.first)),
            (false, true) => Some(format!("version <= {}", self.last)),
            (true, true) if self.first == self.last => Some(format!("version == {}", self.first)),
            (true, true) => Some(format!("({}..={}).contains(&version)", self.first, self.last)),
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Versions {
                first,
                last: OPEN_END,
            } => write!(f, "{first}+"),
            Versions { first, last } if first == last => write!(f, "{first}"),
            Versions { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// What one value is; arrays are `Field::is_array` on top of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    String,
    Bytes,
    Records,
    Uuid,
    Struct(String),
}

impl Kind {
    /// Whether the value is a number, a flag or a uuid: fixed size, never null.
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self, Kind::String | Kind::Bytes | Kind::Records | Kind::Struct(_))
    }
}

/// One line of the table, with the fields of the struct it names.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_array: bool,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
    pub(crate) is_secret: bool,
    pub(crate) children: Vec<Field>,
    /// The struct is defined by an earlier field of the message; the children are copies.
    pub(crate) is_repeated: bool,
}

/// A request, a response or a data format.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) first_flexible: Option<i16>,
    pub(crate) fields: Vec<Field>,
}

/// An API key with its two messages.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: String,
    pub(crate) request: Message,
    pub(crate) response: Message,
}

/// Everything the schema folder says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) apis: Vec<Api>,
    pub(crate) data: Vec<Message>,
}

impl Table {
    /// Every message, APIs by key first.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.apis
            .iter()
            .flat_map(|api| [&api.request, &api.response])
            .chain(&self.data)
    }

    /// Rules that need the whole table: keys and names are unique, tags count up from zero in each struct.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut keys = BTreeSet::new();
        for api in &self.apis {
            if !keys.insert(api.key) {
                return Err(format!("api key {} of {} is taken", api.key, api.name));
            }
        }
        let mut names = BTreeSet::new();
        for message in self.messages() {
            if !names.insert(&message.name) {
                return Err(format!("message {} is defined twice", message.name));
            }
            let mut structs = BTreeSet::from([message.name.clone()]);
            check_fields(&message.name, &message.fields, &mut structs)?;
        }
        Ok(())
    }
}

fn check_fields(owner: &str, fields: &[Field], structs: &mut BTreeSet<String>) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let mut tags = BTreeSet::new();
    for field in fields {
        let place = format!("{owner}.{}", field.name);
        if !names.insert(&field.name) {
            return Err(format!("{place} is defined twice"));
        }
        if let Some(tag) = field.tag
            && !tags.insert(tag)
        {
            return Err(format!("{place}: tag {tag} is taken"));
        }
        if let Kind::Struct(name) = &field.kind
            && !field.is_repeated
        {
            if !structs.insert(name.clone()) {
                return Err(format!("{place}: struct {name} is defined twice in one message"));
            }
            if field.children.is_empty() {
                return Err(format!("{place}: struct {name} has no fields"));
            }
            check_fields(name, &field.children, structs)?;
        }
    }
    Ok(())
}
