//! What a process may tell of itself: every name that a field of a log line, an attribute of a span or a label of a metric
//! may have. What is not here does not leave the process, whoever wrote it. There is no name here for the address, the agent or
//! anything else of a visitor; before one is added, read SECURITY.md.

use std::sync::LazyLock;

use opentelemetry::{Key, KeyValue, global, metrics::Counter};
use tracing::Metadata;

/// Fields of log lines and attributes of spans. Their values are ids, numbers and words of ours.
const FIELDS: &[&str] = &[
    // What happened in our own words. `error`, `fault` and `why` tell of files, settings and neighbours of ours.
    "message",
    "command",
    "outcome",
    "reason",
    "why",
    "error",
    "fault",
    "what",
    "end",
    "ended",
    "signal",
    "place",
    // Whose line, and what in it: ids only.
    "helpline",
    "helplines",
    "from",
    "to",
    "chat",
    "chat_id",
    "responder",
    "session",
    "by",
    "number",
    "wave",
    // Our own processes, where they are, and what holds them together.
    "service",
    "replica",
    "replicas",
    "role",
    "queue",
    "address",
    "host",
    "tls",
    "which",
    "task",
    "tasks",
    "level",
    // Settings, keys by their public names, policies.
    "field",
    "fields",
    "first",
    "key",
    "keys",
    "revision",
    // How many, how much, whether.
    "accepting",
    "bytes",
    "correlation",
    "cut",
    "difference",
    "failed",
    "hold_ms",
    "ok",
    "on_shift",
    "wanted",
    // Calls, as the semantic conventions name it.
    "code",
    "rpc.system.name",
    "rpc.method",
    "rpc.response.status_code",
    "trace_id",
    // No attributes: by these a span is given its name, kind and status.
    "otel.name",
    "otel.kind",
    "otel.status_code",
];

/// Attributes that every span and its events get: where in the code it was made, and for how long.
const OF_ALL_SPANS: &[&str] = &[
    "target",
    "code.file.path",
    "code.module.name",
    "code.line.number",
    "thread.id",
    "thread.name",
    "busy_ns",
    "idle_ns",
];

/// Labels of metrics. Each has few values: the words are ours, and helplines are those that have a policy.
const LABELS: &[&str] = &[
    "act",
    "command",
    "done",
    "helpline",
    "outcome",
    "reason",
    "role",
    "rpc.method",
    "rpc.response.status_code",
    "rpc.system.name",
    "status",
    "what",
    "which",
];

/// The longest value, in bytes; what is longer is cut.
const LONGEST: usize = 1024;

/// A name that is on the list. Whatever writes telemetry takes names as these and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Allowed(&'static str);

impl Allowed {
    /// The name of a field or an attribute, if it is on the list.
    pub(super) fn field(name: &str) -> Option<Self> {
        FIELDS.iter().chain(OF_ALL_SPANS).find(|known| **known == name).map(|known| Self(known))
    }

    pub(super) fn name(self) -> &'static str {
        self.0
    }
}

/// All that a label may be called.
pub(super) fn labels() -> impl Iterator<Item = Key> {
    LABELS.iter().map(|label| Key::from_static_str(label))
}

/// Whether an event or a span is made by us. Of a library's it is not known what it says and of whom: there the kind of thing
/// and its place in the code have to do.
pub(super) fn is_ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target.strip_prefix("holdfast").is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', ':']))
}

/// A value, no longer than it may be.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Something of ours was not on the list: a mistake of whoever wrote it, and seen as one.
pub(super) fn dropped(from: &'static str) {
    static DROPPED: LazyLock<Counter<u64>> = LazyLock::new(|| {
        global::meter(crate::METER)
            .u64_counter("holdfast.telemetry.dropped")
            .with_description(
                "Fields of log lines and attributes of spans that are not on the list, so nobody saw them",
            )
            .build()
    });
    DROPPED.add(1, &[KeyValue::new("what", from)]);
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    /// The macros that make spans and events.
    const MACROS: [&str; 12] = [
        "error!(",
        "warn!(",
        "info!(",
        "debug!(",
        "trace!(",
        "event!(",
        "error_span!(",
        "warn_span!(",
        "info_span!(",
        "debug_span!(",
        "trace_span!(",
        "span!(",
    ];

    /// The sources of all services, as far as they are not tests.
    fn sources() -> Vec<(PathBuf, String)> {
        let services = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut folders: Vec<_> =
            fs::read_dir(services).unwrap().map(|entry| entry.unwrap().path().join("src")).collect();
        let mut sources = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let source = fs::read_to_string(&path).unwrap();
                    let tests = source.find("#[cfg(test)]\nmod tests {").unwrap_or(source.len());
                    sources.push((path, source[..tests].to_owned()));
                }
            }
        }
        sources
    }

    /// What stands between the parentheses that open before `rest`, in its parts.
    fn arguments(rest: &str) -> Vec<String> {
        let (mut parts, mut part, mut depth, mut quoted, mut escaped) =
            (Vec::new(), String::new(), 0, false, false);
        for letter in rest.chars() {
            match letter {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ if quoted => {}
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(std::mem::take(&mut part));
                    continue;
                }
                _ => {}
            }
            part.push(letter);
        }
        parts.push(part);
        parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    }

    /// The calls of `macros` in a source, each with its parts.
    fn calls(source: &str, opening: &str) -> Vec<Vec<String>> {
        let is_whole = |at: usize| {
            let before = source[..at].chars().next_back();
            !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
        };
        let found = source.match_indices(opening).filter(|(at, _)| is_whole(*at));
        found.map(|(at, opening)| arguments(&source[at + opening.len()..])).collect()
    }

    /// What is wrong with an argument of one of the macros.
    fn fault(argument: &str) -> Option<String> {
        if ["parent:", "target:", "name:", "Level::", "tracing::Level::"].iter().any(|o| argument.starts_with(o)) {
            return None;
        }
        if argument.starts_with('"') {
            let quotes = argument.contains('{');
            return quotes.then(|| format!("{argument} has something in it: make it a field"));
        }
        let name = argument.split('=').next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
        Allowed::field(name).is_none().then(|| format!("{name:?} is not on the list"))
    }

    #[test]
    fn whatever_our_sources_log_trace_or_count_is_on_the_list() {
        let sources = sources();
        let (mut seen, mut labels, mut faults) = (0, BTreeSet::new(), Vec::new());
        for (path, source) in &sources {
            for arguments in MACROS.iter().flat_map(|opening| calls(source, opening)) {
                seen += 1;
                let found = arguments.iter().filter_map(|argument| fault(argument));
                faults.extend(found.map(|fault| format!("{}: {fault}", path.display())));
            }
            for arguments in calls(source, ".record(") {
                let late = arguments.first().and_then(|name| name.strip_prefix('"')?.strip_suffix('"'));
                let unknown = late.filter(|name| Allowed::field(name).is_none());
                faults.extend(unknown.map(|name| format!("{}: {name:?} is recorded", path.display())));
            }
            for arguments in calls(source, "KeyValue::new(") {
                let label = arguments[0].trim_matches('"').to_owned();
                let of_the_process = label.starts_with("service.");
                if !of_the_process && !LABELS.contains(&label.as_str()) {
                    faults.push(format!("{}: {label:?} is no label on the list", path.display()));
                }
                labels.insert(label);
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
        // The reader reads: it has found what is known to be there.
        assert!(seen > 0 && sources.iter().any(|(path, _)| path.ends_with("queue/src/desk.rs")));
        let unused: Vec<_> = LABELS.iter().filter(|label| !labels.contains(**label)).collect();
        assert!(unused.is_empty(), "nothing is counted by {unused:?}");
    }

    #[test]
    fn the_reader_of_sources_sees_what_is_wrong() {
        let source =
            r#"info!(%peer, helpline = %of(a, b), "so (it) is, {peer}"); tracing::warn!(error = ?e, "x");"#;
        let faults = |opening| -> Vec<_> {
            calls(source, opening).iter().flatten().filter_map(|argument| fault(argument)).collect()
        };
        assert_eq!(faults("info!(").len(), 2, "{:?}", faults("info!("));
        assert!(faults("warn!(").is_empty() && calls(source, "warn!(").len() == 1);
    }

    #[test]
    fn a_name_is_once_on_the_list_and_the_names_of_visitors_are_not() {
        let all: Vec<_> = FIELDS.iter().chain(OF_ALL_SPANS).collect();
        let once: BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), once.len());
        for name in
            ["client.address", "network.peer.address", "user_agent.original", "peer", "ip", "email", "name"]
        {
            assert!(Allowed::field(name).is_none() && !LABELS.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_value_ends_somewhere_and_never_within_a_letter() {
        assert_eq!(cut("short".to_owned()), "short");
        let long = cut("é".repeat(LONGEST));
        assert!(long.len() <= LONGEST && long.chars().all(|letter| letter == 'é'));
    }
}
