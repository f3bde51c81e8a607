//! Where in the file a field stands.

use super::{Finding, Problem, Severity};
use std::cmp::Reverse;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// Syntax errors that are told at once; the first ones often cause the rest.
const MAX_SYNTAX_ERRORS: usize = 20;

/// The paths of a file and where they stand.
pub(super) struct Places<'a> {
    text: &'a str,
    paths: Vec<(String, Range<usize>)>,
}

impl<'a> Places<'a> {
    /// Reads a file as far as TOML goes.
    pub(super) fn of(text: &'a str) -> Result<Self, Vec<Finding>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut places = Self { text, paths: Vec::new() };
        places.table("", document.get_ref());
        if errors.is_empty() {
            return Ok(places);
        }
        Err(errors.iter().take(MAX_SYNTAX_ERRORS).map(|e| places.unreadable(e)).collect())
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path =
                if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            self.paths.push((path.clone(), key.span()));
            self.value(&path, value);
        }
    }

    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>) {
        self.paths.push((path.to_owned(), value.span()));
        match value.get_ref() {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(entries) => {
                for (i, entry) in entries.iter().enumerate() {
                    self.value(&format!("{path}[{i}]"), entry);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    /// The line of a byte, from 1.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        before.iter().filter(|b| **b == b'\n').count() + 1
    }

    /// The line of a field or, if it is not there, of the nearest thing around it.
    fn line_of(&self, field: &str) -> usize {
        let mut field = field;
        loop {
            if let Some((_, span)) = self.paths.iter().find(|(path, _)| path == field) {
                return self.line(span.start);
            }
            match field.rfind(['.', '[']) {
                Some(end) => field = field.get(..end).unwrap_or(""),
                None => return 1,
            }
        }
    }

    /// The innermost path around a byte. A list's first table stands where the list does, and is further in.
    fn path_at(&self, offset: usize) -> Option<&str> {
        let around = self.paths.iter().filter(|(_, span)| span.contains(&offset));
        around.min_by_key(|(path, span)| (span.len(), Reverse(path.len()))).map(|(path, _)| path.as_str())
    }

    pub(super) fn finding(&self, problem: Problem) -> Finding {
        let Problem { severity, field, text } = problem;
        Finding { line: self.line_of(&field), severity, field, problem: text }
    }

    /// What could not be read.
    pub(super) fn unreadable(&self, e: &Error) -> Finding {
        let start = e.span().map_or(0, |span| span.start);
        let field = self.path_at(start).unwrap_or("policy").to_owned();
        let problem = e.message().lines().collect::<Vec<_>>().join(", ");
        Finding { line: self.line(start), severity: Severity::Error, field, problem }
    }
}
