//! What is known of the mesh, as the page gets it: sections of rows, whole or as what has changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A section of the page's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Processes,
    Services,
    Declared,
    Edges,
    Endpoints,
    Work,
    Followers,
    Notes,
}

impl Section {
    const ALL: [Self; 8] = [
        Self::Processes,
        Self::Services,
        Self::Declared,
        Self::Edges,
        Self::Endpoints,
        Self::Work,
        Self::Followers,
        Self::Notes,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Services => "services",
            Self::Declared => "declared",
            Self::Edges => "edges",
            Self::Endpoints => "endpoints",
            Self::Work => "work",
            Self::Followers => "followers",
            Self::Notes => "notes",
        }
    }
}

/// Rows by their keys, and which of them have changed since [`changes`](Self::changes) was asked.
#[derive(Debug, Default)]
pub(crate) struct State {
    rows: BTreeMap<(Section, String), Row>,
    gone: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Debug)]
struct Row {
    value: Value,
    changed: bool,
}

impl State {
    /// Sets a row.
    pub(crate) fn put(&mut self, section: Section, key: impl Into<String>, value: Value) {
        let row = self.rows.entry((section, key.into())).or_insert(Row { value: Value::Null, changed: false });
        if row.value != value {
            *row = Row { value, changed: true };
        }
    }

    /// Removes the rows of a section whose keys `is_gone` selects.
    pub(crate) fn remove(&mut self, section: Section, is_gone: impl Fn(&str) -> bool) {
        let gone: Vec<_> = self.keys(section).filter(|key| is_gone(key)).map(str::to_owned).collect();
        for key in gone {
            self.rows.remove(&(section, key.clone()));
            self.gone.entry(section.name()).or_default().push(key);
        }
    }

    /// Makes `rows` the rows of a section.
    pub(crate) fn replace(&mut self, section: Section, rows: BTreeMap<String, Value>) {
        self.remove(section, |key| !rows.contains_key(key));
        for (key, value) in rows {
            self.put(section, key, value);
        }
    }

    fn keys(&self, section: Section) -> impl Iterator<Item = &str> {
        let of = self.rows.range((section, String::new())..);
        of.take_while(move |((other, _), _)| *other == section).map(|((_, key), _)| key.as_str())
    }

    /// All rows, at the time `at` in milliseconds.
    pub(crate) fn whole(&self, at: u64) -> Map<String, Value> {
        let mut whole = Map::from_iter([("at".to_owned(), json!(at))]);
        whole.extend(Section::ALL.map(|section| (section.name().to_owned(), json!([]))));
        for ((section, _), row) in &self.rows {
            if let Some(Value::Array(rows)) = whole.get_mut(section.name()) {
                rows.push(row.value.clone());
            }
        }
        whole
    }

    /// The rows that have changed since this was last asked.
    pub(crate) fn changes(&mut self, at: u64) -> Map<String, Value> {
        let mut changes = Map::from_iter([("at".to_owned(), json!(at))]);
        for ((section, _), row) in self.rows.iter_mut().filter(|(_, row)| row.changed) {
            row.changed = false;
            let rows = changes.entry(section.name()).or_insert_with(|| json!([]));
            if let Value::Array(rows) = rows {
                rows.push(row.value.clone());
            }
        }
        // A row that is gone and has come back is there.
        let gone = std::mem::take(&mut self.gone).into_iter().map(|(name, mut keys)| {
            let section = Section::ALL.into_iter().find(|section| section.name() == name);
            keys.retain(|key| section.is_none_or(|section| !self.rows.contains_key(&(section, key.clone()))));
            (name.to_owned(), json!(keys))
        });
        changes.insert("gone".to_owned(), Value::Object(gone.collect()));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_once_and_the_whole_has_them() {
        let mut state = State::default();
        assert!(!state.changes(1).contains_key("edges"));
        state.put(Section::Edges, "a", json!({"key": "a", "n": 1}));
        state.put(Section::Edges, "b", json!({"key": "b"}));
        let changes = state.changes(2);
        assert_eq!(changes["edges"], json!([{"key": "a", "n": 1}, {"key": "b"}]));
        state.put(Section::Edges, "a", json!({"key": "a", "n": 1}));
        assert!(!state.changes(3).contains_key("edges"), "it is the same");
        state.put(Section::Edges, "a", json!({"key": "a", "n": 2}));
        let changes = state.changes(4);
        assert_eq!(changes["edges"], json!([{"key": "a", "n": 2}]));
        assert!(!changes.contains_key("work"));
        assert_eq!(state.whole(5)["edges"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn removed_row_is_gone_unless_it_comes_back() {
        let mut state = State::default();
        for key in ["a", "b"] {
            state.put(Section::Work, key, json!({"name": key}));
        }
        state.changes(1);
        state.remove(Section::Work, |_| true);
        state.put(Section::Work, "b", json!({"name": "b"}));
        let changes = state.changes(2);
        assert_eq!((&changes["gone"], &changes["work"]), (&json!({"work": ["a"]}), &json!([{"name": "b"}])));
        state.replace(Section::Work, BTreeMap::from([("c".to_owned(), json!({"name": "c"}))]));
        let changes = state.changes(3);
        assert_eq!((&changes["gone"], &changes["work"]), (&json!({"work": ["b"]}), &json!([{"name": "c"}])));
    }
}
