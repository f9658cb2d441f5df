//! Tables that go on: what is new since the last look, in columns that do not shrink.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use super::{GetArgs, Line, Listed, Refusal};
use crate::cli::events;
use crate::cli::table::Columns;

/// The tables of one watch: the headers once, columns that do not shrink, and then only rows that say something new.
#[derive(Debug)]
pub struct Watch<'a, O: Listed> {
    args: &'a GetArgs,
    columns: Columns,
    headers: bool,
    shown: Vec<O::Row>,
}

impl<'a, O: Listed> Watch<'a, O> {
    pub fn new(args: &'a GetArgs) -> Watch<'a, O> {
        Watch { args, columns: Columns::of_get(), headers: true, shown: Vec::new() }
    }

    /// What these objects, all that there are now, add to the output. Nothing while there never was one.
    pub fn update(&mut self, all: Vec<O>, now: Timestamp) -> std::result::Result<String, Refusal> {
        let what = self.args.what()?;
        let Some(names) = what.names() else { return Err(Refusal::client("only objects can be watched")) };
        let (found, _) = self.args.select(names, all)?;
        Ok(self.print(&found, now))
    }

    pub(super) fn print(&mut self, found: &[O], now: Timestamp) -> String {
        let rows: Vec<O::Row> = found.iter().map(|object| object.row(now)).collect();
        let fresh: Vec<&O::Row> = rows.iter().filter(|row| !self.shown.iter().any(|shown| shown.same_but_for_age(row))).collect();
        let wide = self.args.wide();
        let headers = if wide { O::WIDE_HEADERS } else { O::HEADERS };
        let headers = (self.headers && !rows.is_empty()).then_some(headers);
        self.headers &= rows.is_empty();
        let text = self.args.lines(headers, fresh.into_iter().map(|row| (row.namespace(), row.cells(wide))));
        self.shown = rows;
        self.columns.align(&text)
    }
}

/// The same for events: those that are new, or happened once more.
#[derive(Debug)]
pub struct EventWatch<'a> {
    args: &'a GetArgs,
    columns: Columns,
    headers: bool,
    /// Where, which, and how often each had happened.
    shown: BTreeSet<(Option<String>, Option<String>, i32)>,
}

impl<'a> EventWatch<'a> {
    pub fn new(args: &'a GetArgs) -> EventWatch<'a> {
        EventWatch { args, columns: Columns::of_get(), headers: true, shown: BTreeSet::new() }
    }

    /// What these events, all that there are now, add to the output.
    pub fn update(&mut self, events: &[Event], now: Timestamp) -> std::result::Result<String, Refusal> {
        Ok(self.print(&self.args.select_events(events)?, now))
    }

    pub(super) fn print(&mut self, events: &[&Event], now: Timestamp) -> String {
        let wide = self.args.wide();
        let key = |event: &Event| (event.metadata.namespace.clone(), event.metadata.name.clone(), events::count(event));
        let fresh = events.iter().filter(|event| self.shown.insert(key(event)));
        let rows: Vec<(String, Vec<String>)> =
            fresh.map(|event| (event.metadata.namespace.clone().unwrap_or_default(), events::cells(event, wide, now))).collect();
        let headers = if wide { events::WIDE_HEADERS } else { events::HEADERS };
        let headers = (self.headers && !rows.is_empty()).then_some(headers);
        self.headers &= rows.is_empty();
        let rows = rows.iter().map(|(namespace, cells)| (namespace.as_str(), cells.iter().map(String::as_str).collect()));
        self.columns.align(&self.args.lines(headers, rows))
    }
}
