//! What a change of policy changes, field by field.

use super::Policy;
use std::collections::BTreeMap;
use std::fmt;
use toml::{Table, Value};

/// One field that differs between two policies, by its path in the file. Entries of lists go by their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path: `numbers.fan_out`, `routes[1].steps[0].after_ms`.
    pub field: String,
    /// What it was, as it stands in a file; none if it was not there.
    pub from: Option<String>,
    /// What it is now; none if it is gone.
    pub to: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{}: {from} -> {to}", self.field),
            (None, Some(to)) => write!(f, "{}: {to} (new)", self.field),
            (Some(from), None) => write!(f, "{}: {from} (gone)", self.field),
            (None, None) => f.write_str(&self.field),
        }
    }
}

/// A step on the way to a field. Ordered so that `routes[2]` stands before `routes[10]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Index(usize),
    Key(String),
}

type Fields = BTreeMap<Vec<Segment>, String>;

impl Policy {
    /// Every field in which two policies differ, defaults included, in the order of their paths. The revision is left
    /// out: the line sets it, not whoever changes the policy.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Vec<Change> {
        let (from, to) = (old.fields(), new.fields());
        let mut paths: Vec<&Vec<Segment>> = from.keys().chain(to.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let change = |path: &Vec<Segment>| Change {
            field: written(path),
            from: from.get(path).cloned(),
            to: to.get(path).cloned(),
        };
        paths.into_iter().map(change).filter(|change| change.from != change.to).collect()
    }

    /// Every field and what stands there.
    fn fields(&self) -> Fields {
        let mut fields = Fields::new();
        let mut table = Table::try_from(self).unwrap_or_default();
        table.remove("revision");
        collect(Value::Table(table), &mut Vec::new(), &mut fields);
        fields
    }
}

/// Lists of numbers and words are one field; lists of tables are walked.
fn collect(value: Value, path: &mut Vec<Segment>, fields: &mut Fields) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                path.push(Segment::Key(key));
                collect(value, path, fields);
                path.pop();
            }
        }
        Value::Array(entries) if entries.iter().any(Value::is_table) => {
            for (i, value) in entries.into_iter().enumerate() {
                path.push(Segment::Index(i));
                collect(value, path, fields);
                path.pop();
            }
        }
        Value::Array(entries) if entries.is_empty() => {}
        Value::Array(_)
        | Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {
            fields.insert(path.clone(), value.to_string());
        }
    }
}

fn written(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Index(i) => text.push_str(&format!("[{i}]")),
            Segment::Key(key) if text.is_empty() => text.push_str(key),
            Segment::Key(key) => text.extend([".", key]),
        }
    }
    text
}
