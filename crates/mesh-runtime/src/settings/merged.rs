//! The values of all sources, merged. A module takes each key that it knows once; a key that is left over is unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::key::Key;
use super::listing::{Listing, Shown};
use super::secret_file::{self, twin};
use super::source::{Error, Problem, Source};

/// The environment variable that sets a key.
pub fn variable(key: &str) -> String {
    format!("MESH__{}", key.to_uppercase().replace('.', "__"))
}

/// The values of all sources, merged.
#[derive(Default)]
pub struct Settings {
    values: BTreeMap<String, (String, Source)>,
    known: BTreeSet<String>,
    /// The keys that name the files of secrets.
    files: BTreeSet<String>,
    /// The tables whose remaining keys belong to another process.
    shared: Vec<String>,
    /// The variables of OpenTelemetry.
    pub(super) otel: BTreeMap<String, String>,
    /// Variables with a prefix that is almost right, and the keys that they would set.
    pub(super) nearly: Vec<(String, String)>,
    problems: Vec<Problem>,
    listing: Listing,
}

impl Settings {
    /// Sets a key, and overrides an earlier value.
    pub fn set(&mut self, key: &str, value: &str, source: Source) {
        self.values.insert(key.to_owned(), (value.to_owned(), source));
    }

    /// Reads a key; `default` if it is not set. A value that is not allowed is noted as a problem.
    pub fn take<T: Shown>(&mut self, key: &Key, default: T, parse: impl Fn(&str) -> Option<T>) -> T {
        let set = self.source(&key.path).is_some();
        match self.optional(key, parse) {
            Some(value) => value,
            None => {
                if !set {
                    self.list(key, default.shown(), Source::Default);
                }
                default
            }
        }
    }

    /// Reads a key; `None` if it is not set. A value that is not allowed gives `None`, too, and is noted as a problem.
    /// The value of a secret may be in a file that `KEY_file` names.
    pub fn optional<T>(&mut self, key: &Key, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.known.insert(key.path.clone());
        let own = self.values.remove(&key.path);
        let file = if key.secret { self.values.remove(&twin(&key.path)) } else { None };
        if key.secret {
            self.files.insert(twin(&key.path));
        }
        if let Some((path, source)) = file {
            return self.optional_of_file(key, &path, source, own.is_some(), parse);
        }
        let Some((text, source)) = own else {
            self.listing.unset(key);
            return None;
        };
        let value = parse(&text);
        if value.is_none() {
            let found = if key.secret { String::new() } else { format!(", not `{text}`") };
            let instead = key.instead.filter(|_| !key.secret).and_then(|instead| instead(&text));
            let instead = instead.map(|instead| format!(": write {instead}")).unwrap_or_default();
            self.problem(&*key.path, source, format!("must be {}{found}{instead}", key.allowed));
        } else {
            self.list(key, text, source);
        }
        value
    }

    /// Reads a secret from its file. One of another process is not read: the file may be on another machine.
    fn optional_of_file<T>(
        &mut self,
        key: &Key,
        path: &str,
        source: Source,
        twice: bool,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let file = twin(&key.path);
        if twice {
            let message = format!("is set, and so is `{}`: remove one of them", key.path);
            self.problem(file, Source::Together, message);
            return None;
        }
        if key.elsewhere {
            return None;
        }
        let read = secret_file::read(path).and_then(|text| {
            let value = parse(&text);
            value.map(|value| (text, value)).ok_or_else(|| {
                format!("names a file with a value that is not allowed, {path}: it must be {}", key.allowed)
            })
        });
        match read {
            Ok((text, value)) => {
                self.list(key, text, source);
                Some(value)
            }
            Err(message) => {
                self.problem(file, source, message);
                None
            }
        }
    }

    /// Lists a key as in force with a value that no parser returned, such as a default that depends on other keys.
    pub fn list(&mut self, key: &Key, value: String, source: Source) {
        self.listing.set(key, value, source);
    }

    /// The value of a variable of OpenTelemetry, such as `OTEL_EXPORTER_OTLP_ENDPOINT`. An empty one is as good as
    /// none.
    pub fn otel(&self, variable: &str) -> Option<&str> {
        self.otel.get(variable).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Accepts all remaining keys of a table, such as `services.artwork`: another process checks them.
    pub fn shared(&mut self, table: &str) {
        self.shared.push(format!("{table}."));
    }

    /// The source of a key that is not read yet, or of the file that has its value.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.values.get(key).or_else(|| self.values.get(&twin(key))).map(|(_, source)| source)
    }

    /// Notes a problem. `message` continues the sentence that the key begins.
    pub fn problem(&mut self, key: impl Into<String>, source: Source, message: String) {
        self.problems.push(Problem { key: key.into(), source, message });
    }

    /// Ends the reading. Keys that no module has read are unknown.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with all problems.
    pub fn finish(mut self) -> Result<Listing, Error> {
        for (key, (_, source)) in std::mem::take(&mut self.values) {
            if self.shared.iter().any(|table| key.starts_with(table)) {
                continue;
            }
            let message = match (self.below(&key), self.nearest(&key)) {
                (below, _) if !below.is_empty() => format!("is a table and no key; its keys are {}", below.join(", ")),
                (_, Some(known)) => format!("is not a key; did you mean `{known}`?"),
                (_, None) => {
                    let known: Vec<_> = self.known.iter().map(String::as_str).collect();
                    format!("is not a key; the keys are {}", known.join(", "))
                }
            };
            self.problem(key, source, message);
        }
        for (name, key) in std::mem::take(&mut self.nearly) {
            if self.known.contains(&key) {
                let meant = variable(&key);
                self.problem("", Source::Variable(name), format!("is not read; did you mean {meant}?"));
            }
        }
        if self.problems.is_empty() { Ok(self.listing) } else { Err(Error::Invalid(self.problems)) }
    }

    /// The known keys of a table.
    fn below(&self, table: &str) -> Vec<&str> {
        let known = self.known.iter().map(String::as_str);
        known.filter(|key| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))).collect()
    }

    fn nearest(&self, key: &str) -> Option<&str> {
        let distance = |known: &String| strsim::damerau_levenshtein(known, key);
        let nearest = self.known.iter().chain(&self.files).min_by_key(|known| distance(known))?;
        (distance(nearest) <= 3).then_some(nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag() -> Source {
        Source::Flag("--set".to_owned())
    }

    fn problems(settings: Settings) -> Vec<String> {
        match settings.finish() {
            Err(Error::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
            other => panic!("expected problems, got {other:?}"),
        }
    }

    fn parse(text: &str) -> Option<u32> {
        text.parse().ok()
    }

    #[test]
    fn unknown_keys_are_reported_with_the_nearest_known_one() {
        let mut settings = Settings::default();
        settings.set("limits.steams", "1", flag());
        settings.take(&Key::new("limits.streams", "a number"), 1, parse);
        assert_eq!(problems(settings), ["--set: `limits.steams` is not a key; did you mean `limits.streams`?"]);
    }

    #[test]
    fn table_that_is_set_as_a_key_is_reported_with_its_keys_alone() {
        let mut settings = Settings::default();
        settings.set("nats", "nats://127.0.0.1:4222", flag());
        for key in ["nats.token", "nats.url", "natsy.url", "log.format"] {
            settings.take(&Key::new(key, "a number"), 1, parse);
        }
        assert_eq!(problems(settings), ["--set: `nats` is a table and no key; its keys are nats.token, nats.url"]);
    }

    #[test]
    fn shared_table_may_hold_keys_of_another_process() {
        let mut settings = Settings::default();
        settings.set("services.artwork.concurrency", "1", flag());
        settings.set("services.artwrok.concurrency", "1", flag());
        settings.shared("services.artwork");
        let problems = problems(settings);
        assert!(problems.len() == 1 && problems[0].contains("artwrok"), "{problems:?}");
    }

    #[test]
    fn secrets_are_neither_listed_nor_part_of_an_error() {
        let mut settings = Settings::default();
        for (key, value) in [("consul.token", "hush"), ("otp", "hush, too")] {
            settings.set(key, value, flag());
        }
        settings.optional(&Key::new("consul.token", "a token").secret(), |text| Some(text.to_owned()));
        settings.optional(&Key::new("otp", "a number").secret(), parse);
        assert!(!format!("{}", settings.listing).contains("hush"));
        let problems = problems(settings);
        assert_eq!(problems, ["--set: `otp` must be a number"]);
    }

    #[test]
    fn variable_with_an_almost_right_prefix_is_reported() {
        let mut settings = Settings::default();
        settings.read_environment([("MESH_DRAIN_LIMIT".into(), "1".into())]);
        settings.take(&Key::new("drain_limit", "a number"), 1, parse);
        assert_eq!(problems(settings), ["MESH_DRAIN_LIMIT: is not read; did you mean MESH__DRAIN_LIMIT?"]);
    }

    #[test]
    fn value_that_is_not_allowed_has_a_suggestion() {
        let mut settings = Settings::default();
        let key = |path| Key::new(path, "a number").instead(|text| text.strip_prefix('#').map(ToOwned::to_owned));
        for (path, value) in [("a", "#1"), ("b", "x"), ("c", "#hush")] {
            settings.set(path, value, flag());
        }
        settings.optional(&key("a"), parse);
        settings.optional(&key("b"), parse);
        settings.optional(&key("c").secret(), parse);
        let expected =
            ["`a` must be a number, not `#1`: write 1", "`b` must be a number, not `x`", "`c` must be a number"];
        assert_eq!(problems(settings), expected.map(|problem| format!("--set: {problem}")));
    }

    #[test]
    fn keys_of_another_process_are_checked_and_not_listed() {
        let mut settings = Settings::default();
        settings.set("services.b.listen", "x", flag());
        settings.take(&Key::new("services.a.listen", "a number").elsewhere(), 1, parse);
        settings.take(&Key::new("services.b.listen", "a number").elsewhere(), 1, parse);
        assert_eq!(settings.listing.to_string(), "");
        assert_eq!(problems(settings).len(), 1);
    }
}
