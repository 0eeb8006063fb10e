//! What a mapping makes of every call that the gateway has carried: a line a call, or how often each field comes to be in which way.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde_json::json;

use crate::{
    crm::mapping::{Mapping, Way},
    event::CallId,
    pipeline::{Record, Store},
    time::Wall,
};

/// Which calls.
pub(super) struct Span {
    /// Those that began then or later.
    pub(super) since: Wall,
    /// So many at most, the earliest first.
    pub(super) most: usize,
}

/// What was seen.
#[derive(Default)]
struct Summary {
    calls: usize,
    /// That the mapping's conditions leave out.
    left_out: usize,
    /// Whose content retention has taken away.
    pruned: usize,
    /// With a field that somebody is asked to look at.
    flagged: usize,
    /// How often a field came to be so, and the first call of which it did.
    ways: BTreeMap<(usize, Way), (usize, CallId)>,
}

/// Writes it to `out`; as many calls are in memory as are read at once.
pub(super) fn preview(store: &impl Store, mapping: &Mapping, span: &Span, as_json: bool, out: &mut impl Write) -> Result<(), String> {
    let (mut summary, mut after, mut left) = (Summary::default(), None, span.most);
    while left > 0 {
        let page = store.since(span.since, after, left.min(PAGE)).map_err(|e| e.to_string())?;
        let Some(last) = page.last() else { break };
        after = Some(last.call_id);
        left = left.saturating_sub(page.len());
        for record in &page {
            if as_json {
                let Some(line) = line(mapping, record) else { continue };
                if let Err(why) = writeln!(out, "{line}") {
                    return seen_enough(&why);
                }
            } else {
                summary.add(mapping, record);
            }
        }
    }
    let told = if as_json { Ok(()) } else { summary.tell(mapping, out) };
    told.and_then(|()| out.flush()).or_else(|why| seen_enough(&why))
}

/// Who reads may have seen enough: `| head`.
fn seen_enough(why: &io::Error) -> Result<(), String> {
    if why.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(why.to_string()) }
}

fn is_written(mapping: &Mapping, facts: &serde_json::Map<String, serde_json::Value>) -> bool {
    mapping.only.is_empty() || mapping.only.iter().any(|condition| condition.holds(facts))
}

/// A call's line; none of one whose content is gone.
fn line(mapping: &Mapping, record: &Record) -> Option<serde_json::Value> {
    if record.is_pruned() {
        return None;
    }
    let facts = record.fields();
    let formed = mapping.apply(&facts);
    let person = mapping.contact.as_ref().and_then(|rule| rule.sought(&facts));
    let ways: BTreeMap<_, _> = mapping.ways(&facts).into_iter().collect();
    Some(json!({"call_id": record.call_id, "object": mapping.object, "version": mapping.version, "written": is_written(mapping, &facts),
        "complete": record.is_complete(), "person": person, "fields": formed.fields, "ways": ways, "faults": formed.faults}))
}

impl Summary {
    fn add(&mut self, mapping: &Mapping, record: &Record) {
        self.calls += 1;
        if record.is_pruned() {
            self.pruned += 1;
            return;
        }
        let facts = record.fields();
        if !is_written(mapping, &facts) {
            self.left_out += 1;
            return;
        }
        let ways = mapping.ways(&facts);
        self.flagged += usize::from(ways.iter().any(|(_, way)| matches!(way, Way::Flagged | Way::Unformed)));
        for (place, (_, way)) in ways.into_iter().enumerate() {
            self.ways.entry((place, way)).or_insert((0, record.call_id)).0 += 1;
        }
    }

    fn tell(&self, mapping: &Mapping, out: &mut impl Write) -> io::Result<()> {
        let Self { calls, left_out, pruned, flagged, ways } = self;
        let written = calls.saturating_sub(*left_out).saturating_sub(*pruned);
        writeln!(
            out,
            "{written} records of `{}` by version {}, of {calls} calls; {flagged} of them for review",
            mapping.object, mapping.version
        )?;
        if *left_out > 0 {
            writeln!(out, "{left_out} calls are left out by [[only]]")?;
        }
        if *pruned > 0 {
            writeln!(out, "{pruned} calls are not looked at: retention has taken their content away")?;
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(["field", "is", "records", "such as"]);
        for ((place, way), (count, example)) in ways {
            let field = mapping.named().nth(*place).map_or_else(String::new, |(name, _)| name);
            table.add_row([field, name(*way).to_owned(), count.to_string(), example.to_string()]);
        }
        if written > 0 {
            writeln!(out, "{table}")?;
        }
        Ok(())
    }
}

/// For people.
fn name(way: Way) -> &'static str {
    match way {
        Way::Filled => "filled",
        Way::Defaulted => "defaulted",
        Way::Flagged => "defaulted, for review",
        Way::Unformed => "not written, for review",
        Way::Empty => "left out",
    }
}

/// Calls that are read at once.
const PAGE: usize = 500;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::pipeline::{Memory, store::Changes, webhook::Payload};

    fn call(n: usize) -> CallId {
        format!("01960000-0000-7000-8000-{n:012}").parse().expect("a call id")
    }

    fn record(n: usize, told: Value) -> Record {
        let mut record = Record::new(call(n));
        let data = told.as_object().expect("fields").clone().into_iter().collect();
        let (id, kind, call_id, source) = (n.to_string(), "call.ended".to_owned(), call(n).to_string(), String::new());
        let (names, time, also) = (Vec::new(), Wall::from_millis(1), Vec::new());
        record.tell(&Payload { id, kind, call_id, names, time, data, also, asked_as: None, source });
        record
    }

    fn shown(store: &Memory, since: Wall, most: usize, as_json: bool) -> String {
        let mapping = json!({"version": 2, "object": "Task", "key": "k", "only": [{"field": "intent"}], "field": [
            {"to": "Intent", "from": "intent", "values": {"pay": "P"}, "default": "OTHER"},
            {"to": "Day", "from": "next_action_date", "as": "date"},
            {"to": "Kind", "default": "CALL"}]});
        let mapping = serde_json::from_value::<Mapping>(mapping).expect("a mapping");
        let mut out = Vec::new();
        preview(store, &mapping, &Span { since, most }, as_json, &mut out).expect("shown");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_field_is_counted_by_how_it_came_with_a_call_for_each() {
        let mut store = Memory::default();
        let mut changes = Changes::default();
        let mut put = |n, told| drop(changes.records.insert(call(n), (record(n, told), None)));
        // More than are read at once.
        (0..PAGE + 2).for_each(|n| put(n, json!({"intent": "pay", "next_action_date": "2026-01-05"})));
        put(PAGE + 2, json!({"intent": "cancel", "next_action_date": "soon"}));
        put(PAGE + 3, json!({"call_summary": "nothing that [[only]] wants"}));
        changes.records.insert(call(PAGE + 4), (Record::lost(call(PAGE + 4)), None));
        store.commit(changes).expect("committed");

        let text = shown(&store, Wall::from_millis(0), usize::MAX, false);
        let (all, last) = (PAGE + 2, call(PAGE + 2));
        assert!(
            text.starts_with(&format!(
                "{} records of `Task` by version 2, of {} calls; 1 of them for review\n1 calls are left out by [[only]]\n1 calls are not looked at",
                all + 1,
                all + 3
            )),
            "{text}"
        );
        let rows: Vec<Vec<_>> = text.lines().map(|row| row.split_whitespace().collect()).collect();
        let (first, last) = (call(0).to_string(), last.to_string());
        for row in [
            vec!["Intent", "filled", &all.to_string(), &first],
            vec!["Intent", "defaulted", "1", &last],
            vec!["Day", "filled", &all.to_string(), &first],
            vec!["Day", "not", "written,", "for", "review", "1", &last],
            vec!["Kind", "filled", &(all + 1).to_string(), &first],
        ] {
            assert!(rows.contains(&row), "{row:?}: {text}");
        }

        let lines = shown(&store, Wall::from_millis(0), usize::MAX, true);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert_eq!(lines.len(), PAGE + 4);
        let odd = &lines[PAGE + 2];
        assert_eq!(
            (&odd["fields"], &odd["ways"]["Day"], &odd["written"]),
            (&json!({"Intent": "OTHER", "Kind": "CALL"}), &json!("unformed"), &json!(true))
        );
        assert_eq!(lines[PAGE + 3]["written"], json!(false));
        assert_eq!(shown(&store, Wall::from_millis(0), PAGE + 1, true).lines().count(), PAGE + 1);
        assert_eq!(shown(&store, Wall::from_millis(1 << 45), usize::MAX, true), "");
    }
}
