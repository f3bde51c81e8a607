//! One layer of configuration, and how layers become one value or one complaint that names its layer.

use std::{collections::BTreeSet, ffi::OsString};

use config::{Config, File, FileFormat};
use serde::de::DeserializeOwned;

use super::ConfigError;

/// Where settings came from, with every key they set.
pub(super) struct Layer {
    origin: Origin,
    settings: Settings,
}

enum Origin {
    Named(String),
    Environment { prefix: String },
}

enum Settings {
    Toml { text: String, keys: Vec<String>, lists: BTreeSet<String> },
    Strings(Vec<(String, String)>),
}

impl Layer {
    pub(super) fn toml(name: &str, text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse().map_err(|e| not_toml(name, text, &e))?;
        let (mut keys, mut lists) = (Vec::new(), BTreeSet::new());
        collect_keys("", &table, &mut keys, &mut lists);
        Ok(Self {
            origin: Origin::Named(name.to_owned()),
            settings: Settings::Toml { text: text.to_owned(), keys, lists },
        })
    }

    pub(super) fn environment(
        prefix: &str,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Vec::new();
        for (name, value) in variables {
            let Some(key) = name.to_str().and_then(|n| key_of_variable(prefix, n)) else {
                continue; // somebody else's variable
            };
            let value = value.into_string().map_err(|_| ConfigError::Setting {
                origin: "environment".to_owned(),
                key: variable_of_key(prefix, &key),
                message: "not Unicode".to_owned(),
            })?;
            settings.push((key, value));
        }
        Ok(Self {
            origin: Origin::Environment { prefix: prefix.to_owned() },
            settings: Settings::Strings(settings),
        })
    }

    pub(super) fn flags(overrides: &[(&str, String)]) -> Self {
        let strings = overrides.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
        Self { origin: Origin::Named("command line".to_owned()), settings: Settings::Strings(strings.collect()) }
    }

    fn keys(&self) -> Vec<&str> {
        match &self.settings {
            Settings::Toml { keys, .. } => keys.iter().map(String::as_str).collect(),
            Settings::Strings(pairs) => pairs.iter().map(|(key, _)| key.as_str()).collect(),
        }
    }

    fn has_list(&self, key: &str) -> bool {
        matches!(&self.settings, Settings::Toml { lists, .. } if lists.contains(key))
    }

    fn origin(&self, key: &str) -> String {
        match &self.origin {
            Origin::Named(name) => name.clone(),
            Origin::Environment { prefix } => {
                format!("environment {}", variable_of_key(prefix, key))
            }
        }
    }
}

/// `HOLDFAST_QUEUE__SERVER__LISTEN` is `server.listen`; a variable without the whole prefix is not ours.
fn key_of_variable(prefix: &str, name: &str) -> Option<String> {
    let rest = name.strip_prefix(prefix)?.strip_prefix("__")?;
    Some(rest.to_lowercase().replace("__", "."))
}

fn variable_of_key(prefix: &str, key: &str) -> String {
    format!("{prefix}__{}", key.to_uppercase().replace('.', "__"))
}

fn not_toml(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |t| t.matches('\n').count() + 1);
    ConfigError::Malformed { origin: format!("{name} line {line}"), message: error.message().replace('\n', ", ") }
}

/// `lists` gets the keys whose values are arrays.
fn collect_keys(section: &str, table: &toml::Table, keys: &mut Vec<String>, lists: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        if let Some(inner) = value.as_table() {
            collect_keys(&key, inner, keys, lists);
        }
        if value.is_array() {
            lists.insert(key.clone());
        }
        keys.push(key);
    }
}

/// The value all layers make together.
pub(super) fn resolve<T: DeserializeOwned>(layers: &[Layer]) -> Result<T, ConfigError> {
    merge(layers).map_err(|error| blame::<T>(layers, &error))
}

fn merge<T: DeserializeOwned>(layers: &[Layer]) -> Result<T, config::ConfigError> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = match &layer.settings {
            Settings::Toml { text, .. } => builder.add_source(File::from_str(text, FileFormat::Toml)),
            Settings::Strings(pairs) => builder.add_source(strings(pairs, layers)?),
        };
    }
    builder.build()?.try_deserialize()
}

/// Values of the environment and of flags stay strings: the type that reads them decides what they are. Where a TOML
/// layer has a list, they are lists, separated by commas.
fn strings(pairs: &[(String, String)], layers: &[Layer]) -> Result<Config, config::ConfigError> {
    let mut source = Config::builder();
    for (key, value) in pairs {
        source = if layers.iter().any(|layer| layer.has_list(key)) {
            source.set_override(key, items(value))?
        } else {
            source.set_override(key, value.as_str())?
        };
    }
    source.build()
}

fn items(list: &str) -> Vec<String> {
    let items = list.split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// The layer to blame: the last one that sets the key, or else the first one with which the same complaint appears. Of
/// several mistakes another one may be found each time, so complaints alone do not tell.
fn blame<T: DeserializeOwned>(layers: &[Layer], error: &config::ConfigError) -> ConfigError {
    let (key, message) = explain(error);
    let unknown = unknown_in(&key, &message);
    let same = |n: &usize| {
        let seen = merge::<T>(layers.get(..*n).unwrap_or_default()).err();
        seen.is_some_and(|e| e.to_string() == error.to_string())
    };
    let complained = || (1..=layers.len()).find(same).and_then(|n| layers.get(n - 1));
    let sets_it = |layer: &&Layer| layer.keys().contains(&unknown.as_deref().unwrap_or(&key));
    let culprit = layers.iter().rev().find(sets_it).or_else(complained);
    let key = culprit.zip(unknown).and_then(|(layer, unknown)| full_key(layer, &unknown)).unwrap_or(key);
    ConfigError::Setting {
        origin: culprit.map_or_else(|| "configuration".to_owned(), |layer| layer.origin(&key)),
        key,
        message,
    }
}

/// The key and the complaint about it, each as far as the error tells.
fn explain(error: &config::ConfigError) -> (String, String) {
    use config::ConfigError as E;
    let (key, message) = if let E::Type { unexpected, expected, key, .. } = error {
        (key.clone(), format!("invalid type: {unexpected}, expected {expected}"))
    } else if let E::At { error, key, .. } = error {
        let (inner, message) = explain(error);
        (key.clone().filter(|_| inner.is_empty()).or(Some(inner)), message)
    } else if let E::NotFound(key) = error {
        (Some(key.clone()), "missing".to_owned())
    } else {
        (None, error.to_string())
    };
    (key.unwrap_or_default(), message.replace('\n', ", "))
}

/// The key of an unknown field: serde names it, and the section as far as it is known.
fn unknown_in(section: &str, message: &str) -> Option<String> {
    let (field, _) = message.strip_prefix("unknown field `")?.split_once('`')?;
    Some(if section.is_empty() { field.to_owned() } else { format!("{section}.{field}") })
}

/// The layer that set an unknown field knows all of its key.
fn full_key(layer: &Layer, unknown: &str) -> Option<String> {
    let of_layer = layer.keys();
    let field = unknown.rsplit('.').next().unwrap_or(unknown);
    let is_it = |k: &&&str| k.split('.').any(|s| s == field);
    let exact = of_layer.iter().find(|k| **k == unknown);
    exact.or_else(|| of_layer.iter().find(is_it)).map(|k| (*k).to_owned())
}
