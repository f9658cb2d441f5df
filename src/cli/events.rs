//! `minipod get events`: what has happened to pods, oldest first (`printEvent` in
//! `pkg/printers/internalversion/printers.go`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use super::duration;

pub const HEADERS: &[&str] = &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
pub const WIDE_HEADERS: &[&str] = &["LAST SEEN", "TYPE", "REASON", "OBJECT", "SUBOBJECT", "SOURCE", "MESSAGE", "FIRST SEEN", "COUNT", "NAME"];

/// The cells of one event, under [`HEADERS`] or [`WIDE_HEADERS`].
pub fn cells(event: &Event, wide: bool, now: Timestamp) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let kind = text(&event.involved_object.kind).to_lowercase();
    let object = event.involved_object.name.as_ref().map_or_else(|| kind.clone(), |name| format!("{kind}/{name}"));
    let last = duration::since(last_seen(event), now);
    let message = text(&event.message).trim().to_owned();
    if !wide {
        return vec![last, text(&event.type_), text(&event.reason), object, message];
    }
    let source = event.source.as_ref().map(|source| match (&source.component, &source.host) {
        (component, Some(host)) if !host.is_empty() => format!("{}, {host}", text(component)),
        (component, _) => text(component),
    });
    vec![
        last,
        text(&event.type_),
        text(&event.reason),
        object,
        text(&event.involved_object.field_path),
        source.filter(|source| !source.is_empty()).unwrap_or_else(|| text(&event.reporting_component)),
        message,
        duration::since(first_seen(event), now),
        count(event).to_string(),
        text(&event.metadata.name),
    ]
}

/// When the event happened last.
pub fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    series.or_else(|| event.last_timestamp.as_ref().map(|time| time.0)).or_else(|| first_seen(event))
}

/// When the event happened first.
pub fn first_seen(event: &Event) -> Option<Timestamp> {
    event.first_timestamp.as_ref().map(|time| time.0).or_else(|| event.event_time.as_ref().map(|time| time.0))
}

/// How often it has happened.
pub fn count(event: &Event) -> i32 {
    let series = event.series.as_ref().map(|series| series.count.unwrap_or_default());
    series.unwrap_or_else(|| event.count.filter(|count| *count > 0).unwrap_or(1))
}

/// The age of an event in `describe`: `12s`, or `12s (x4 over 90s)` if it came more than once.
pub fn interval(event: &Event, now: Timestamp) -> String {
    let first = event.event_time.as_ref().map(|time| time.0).or_else(|| event.first_timestamp.as_ref().map(|time| time.0));
    let first = duration::since(first, now);
    if let Some(series) = &event.series {
        let last = duration::since(series.last_observed_time.as_ref().map(|time| time.0), now);
        return format!("{last} (x{} over {first})", series.count.unwrap_or_default());
    }
    match event.count {
        Some(count) if count > 1 => format!("{} (x{count} over {first})", duration::since(event.last_timestamp.as_ref().map(|time| time.0), now)),
        _ => first,
    }
}

/// Oldest first by the last time seen; events of one moment keep their order.
pub fn sorted(events: &[Event]) -> Vec<&Event> {
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by_key(|event| last_seen(event));
    sorted
}
