//! What this crate says through `tracing`, as lines.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps a line for each event up to a level of what begins with `target`, and for each span if these are wanted.
#[derive(Clone)]
pub struct Collected {
    target: &'static str,
    level: Level,
    with_spans: bool,
    spans: Arc<AtomicU64>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Collected {
    pub fn new(target: &'static str, level: Level, with_spans: bool) -> Self {
        Self { target, level, with_spans, spans: Arc::default(), lines: Arc::default() }
    }

    /// The lines of what this thread does meanwhile.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<String>) {
        let result = tracing::subscriber::with_default(self.clone(), work);
        (result, std::mem::take(&mut *self.lines.lock().unwrap()))
    }

    fn push(&self, kind: &str, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
        let mut line = Line(format!("{} {kind}", metadata.level()));
        record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }
}

/// Level, kind, message, fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.0, " {value:?}").unwrap();
        } else {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }
}

impl Subscriber for Collected {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_wanted = metadata.is_event() || self.with_spans;
        is_wanted && metadata.target().starts_with(self.target) && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.push(&format!("[{}]", span.metadata().name()), span.metadata(), |line| span.record(line));
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn event(&self, event: &Event<'_>) {
        self.push("-", event.metadata(), |line| event.record(line));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
