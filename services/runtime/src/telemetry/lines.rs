//! Log lines: what is on the list, as JSON for machines or as text for people. A library's own words are left out, since
//! nobody here knows of whom they speak: that there were any, how loud, and where in its code, is told.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::{LookupSpan, SpanRef},
};

use super::allowed::{Allowed, cut, dropped, is_ours};
use crate::config::LogFormat;

/// What is allowed of the fields of a span or an event.
#[derive(Default)]
struct Told(BTreeMap<Allowed, Value>);

impl Told {
    fn add(&mut self, field: &Field, value: Value) {
        match Allowed::field(field.name()) {
            Some(name) => drop(self.0.insert(name, value)),
            None => dropped("field"),
        }
    }

    fn into_map(self) -> Map<String, Value> {
        self.0.into_iter().map(|(name, value)| (name.name().to_owned(), value)).collect()
    }
}

impl Visit for Told {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, cut(value.to_owned()).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, cut(format!("{value:?}")).into());
    }
}

/// Keeps the fields of spans until a line within the span is written, which few spans see: each time that some become
/// known, an object of JSON behind those before. What was said later counts.
pub(super) struct Fields;

impl<'a> FormatFields<'a> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut told = Told::default();
        fields.record(&mut told);
        write!(writer, "{}", Value::Object(told.into_map()))
    }

    fn add_fields(&self, current: &'a mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

fn kept(fields: &FormattedFields<Fields>) -> Map<String, Value> {
    let objects = serde_json::Deserializer::from_str(&fields.fields).into_iter::<Map<String, Value>>();
    objects.map_while(Result::ok).flatten().collect()
}

/// Writes lines.
pub(super) struct Lines(pub(super) LogFormat);

impl<S> FormatEvent<S, Fields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, Fields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let spans = ctx.event_scope().map(|scope| scope.from_root().map(|span| of_span(&span)).collect());
        let line = Line { time, metadata: event.metadata(), said: said(event), spans: spans.unwrap_or_default() };
        match self.0 {
            LogFormat::Json => line.json(&mut writer),
            LogFormat::Text => line.text(&mut writer),
        }
    }
}

/// What an event says: of a library's, nothing but which it is.
fn said(event: &Event<'_>) -> Map<String, Value> {
    let metadata = event.metadata();
    if is_ours(metadata) {
        let mut told = Told::default();
        event.record(&mut told);
        return told.into_map();
    }
    let place = || {
        let module = metadata.module_path().unwrap_or("somewhere");
        metadata.line().map_or_else(|| module.to_owned(), |line| format!("{module}:{line}"))
    };
    // Few events have a name that somebody gave them; the others are called by the path of a file.
    let named = Some(metadata.name()).filter(|name| !name.starts_with("event ") && *name != "log event");
    let which = named.map_or_else(place, str::to_owned);
    Map::from_iter([("message".to_owned(), format!("{which}, its words are left out").into())])
}

fn of_span<S: for<'a> LookupSpan<'a>>(span: &SpanRef<'_, S>) -> (&'static str, Map<String, Value>) {
    let extensions = span.extensions();
    let fields = extensions.get::<FormattedFields<Fields>>().filter(|_| is_ours(span.metadata()));
    (span.name(), fields.map(kept).unwrap_or_default())
}

struct Line<'a> {
    time: String,
    metadata: &'a Metadata<'a>,
    said: Map<String, Value>,
    /// From the root on.
    spans: Vec<(&'static str, Map<String, Value>)>,
}

impl Line<'_> {
    fn json(self, writer: &mut Writer<'_>) -> fmt::Result {
        let (time, level) = (Value::from(self.time), Value::from(self.metadata.level().as_str()));
        let (said, target) = (Value::Object(self.said), Value::from(self.metadata.target()));
        write!(writer, r#"{{"timestamp":{time},"level":{level},"fields":{said},"target":{target}"#)?;
        let spans: Vec<Value> = self.spans.into_iter().map(|(name, fields)| named(name, fields)).collect();
        if let Some(innermost) = spans.last() {
            write!(writer, r#","span":{innermost},"spans":{}"#, Value::from(spans.as_slice()))?;
        }
        writer.write_str("}\n")
    }

    fn text(mut self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{} {} ", self.time, coloured(*self.metadata.level(), writer.has_ansi_escapes()))?;
        for (name, fields) in &self.spans {
            write!(writer, "{name}{{{}}}:", pairs(fields))?;
        }
        let message = self.said.remove("message");
        let message = message.as_ref().and_then(Value::as_str).unwrap_or_default();
        let space = if self.spans.is_empty() { "" } else { " " };
        let said = [one_line(message), pairs(&self.said)].join(" ");
        writeln!(writer, "{space}{}: {}", self.metadata.target(), said.trim_end())
    }
}

fn named(name: &str, mut fields: Map<String, Value>) -> Value {
    fields.insert("name".to_owned(), name.into());
    Value::Object(fields)
}

fn pairs(fields: &Map<String, Value>) -> String {
    let pair = |(name, value): (&String, &Value)| match value.as_str() {
        Some(text) => format!("{name}={}", one_line(text)),
        None => format!("{name}={value}"),
    };
    fields.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// Nobody's value begins a line of its own, or steers a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn coloured(level: Level, colours: bool) -> String {
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 34,
    };
    if colours { format!("\x1b[{colour}m{level:>5}\x1b[0m") } else { format!("{level:>5}") }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::json;
    use tracing::{field::Empty, info, info_span, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while something happens.
    fn written(format: LogFormat, happens: impl FnOnce()) -> String {
        let paper = Paper::default();
        let to = paper.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .fmt_fields(Fields)
            .event_format(Lines(format))
            .with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), happens);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn something_happens() {
        let span = info_span!("work", helpline = "river", peer = "planted-peer", chat_id = Empty, late = Empty);
        span.record("chat_id", "c-1");
        span.record("late", "planted-late");
        let _inside = span.entered();
        info!(number = 7, ok = true, agent = "planted-agent", "so it is");
        warn!(target: "h2::proto", error = "planted-error", "from planted-address");
    }

    fn shows_nothing(text: &str) {
        for planted in ["peer", "late", "agent", "error", "address"] {
            assert!(!text.contains(&format!("planted-{planted}")), "{planted}: {text}");
        }
    }

    #[test]
    fn a_line_of_json_has_what_is_on_the_list() {
        let text = written(LogFormat::Json, something_happens);

        shows_nothing(&text);
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["fields"], json!({"message": "so it is", "number": 7, "ok": true}));
        assert_eq!(lines[0]["span"], json!({"name": "work", "helpline": "river", "chat_id": "c-1"}));
        assert_eq!((&lines[0]["spans"][0], lines[0]["level"].as_str()), (&lines[0]["span"], Some("INFO")));
        assert!(lines[0]["timestamp"].is_string() && lines[0]["target"].as_str().unwrap().starts_with("holdfast"));
        let of_library = lines[1]["fields"]["message"].as_str().unwrap();
        assert!(of_library.ends_with("its words are left out"), "{of_library}");
        assert_eq!((lines[1]["fields"].as_object().unwrap().len(), lines[1]["level"].as_str()), (1, Some("WARN")));
    }

    #[test]
    fn a_line_of_text_has_the_same_and_is_one_line() {
        let text = written(LogFormat::Text, || {
            something_happens();
            info!(why = "one\nanother\x1b[2J", "broken");
        });

        shows_nothing(&text);
        assert_eq!(text.lines().count(), 3, "{text}");
        let first = text.lines().next().unwrap();
        assert!(first.contains(" INFO work{chat_id=c-1 helpline=river}: "), "{first}");
        assert!(first.ends_with(": so it is number=7 ok=true"), "{first}");
        assert!(text.ends_with("broken why=one another [2J\n"), "{text}");
    }
}
