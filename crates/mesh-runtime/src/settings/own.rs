//! Settings of a service's own: declared where the service is described, checked with all other keys.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::listing::Shown;
use super::merged::Settings;
use super::parse;

/// One setting of a service: `services.NAME.KEY`. Declare it as a constant, hand it to the service, and read it by it.
///
/// ```
/// # use mesh_runtime::settings::Setting;
/// const CONCURRENCY: Setting<u64> = Setting::number("concurrency", 2, 1, 64).doc("Pictures computed at the same time");
/// const LARGEST_IMAGE: Setting<u64> = Setting::bytes("largest_image", 12 << 20, 1 << 10, 15 << 20);
/// const API_KEY: Setting<Option<String>> = Setting::secret("api_key");
/// ```
#[derive(Debug)]
pub struct Setting<T> {
    name: &'static str,
    doc: &'static str,
    kind: Kind<T>,
}

#[derive(Clone, Copy, Debug)]
enum Kind<T> {
    Number { default: T, least: T, most: T },
    Bytes { default: T, least: T, most: T },
    Time { default: T, least: T, most: T },
    Text { default: &'static str },
    Switch { default: T },
    Secret,
}

impl<T> Setting<T> {
    const fn new(name: &'static str, kind: Kind<T>) -> Self {
        Self { name, doc: "", kind }
    }

    /// The last part of its key.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its purpose, and when to change it: one line, for an operator.
    #[must_use]
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }
}

impl Setting<u64> {
    /// A whole number from `least` to `most`.
    pub const fn number(name: &'static str, default: u64, least: u64, most: u64) -> Self {
        Self::new(name, Kind::Number { default, least, most })
    }

    /// A size in bytes from `least` to `most`, set as `12MiB`.
    pub const fn bytes(name: &'static str, default: u64, least: u64, most: u64) -> Self {
        Self::new(name, Kind::Bytes { default, least, most })
    }
}

impl Setting<Duration> {
    /// A time from `least` to `most`, set as `30s`.
    pub const fn time(name: &'static str, default: Duration, least: Duration, most: Duration) -> Self {
        Self::new(name, Kind::Time { default, least, most })
    }
}

impl Setting<String> {
    /// Any text that is not empty.
    pub const fn text(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Text { default })
    }
}

impl Setting<bool> {
    /// `true` or `false`.
    pub const fn switch(name: &'static str, default: bool) -> Self {
        Self::new(name, Kind::Switch { default })
    }
}

impl Setting<Option<String>> {
    /// Text that neither `--print-config`, a log line nor an error shows; `None` if it is not set.
    pub const fn secret(name: &'static str) -> Self {
        Self::new(name, Kind::Secret)
    }
}

/// A type that a setting of a service may have.
pub trait Value: Clone + Send + Sync + 'static {
    /// Reads a setting of this type under a key, and notes what is wrong with it.
    fn take(setting: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self;
}

impl Value for u64 {
    fn take(setting: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self {
        match setting.kind {
            Kind::Number { default, least, most } => {
                settings.take(&key(format!("a number from {least} to {most}")), default, parse::number(least, most))
            }
            Kind::Bytes { default, least, most } => {
                let [low, high] = [least, most].map(parse::show_bytes);
                let key = key(format!("a size from {low} to {high}, such as {}", parse::show_bytes(default)));
                let within = |text: &str| parse::bytes(text).filter(|size| (least..=most).contains(size)).map(Bytes);
                settings.take(&key, Bytes(default), within).0
            }
            _ => unreachable!("no other constructor gives a number"),
        }
    }
}

struct Bytes(u64);

impl Shown for Bytes {
    fn shown(&self) -> String {
        parse::show_bytes(self.0)
    }
}

impl Value for Duration {
    fn take(setting: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self {
        let Kind::Time { default, least, most } = setting.kind else {
            unreachable!("no other constructor gives a time")
        };
        let key = key(format!("a time from {} to {}, such as {}", least.shown(), most.shown(), default.shown()));
        settings.take(&key, default, parse::time(least, most))
    }
}

impl Value for String {
    fn take(setting: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self {
        let Kind::Text { default } = setting.kind else { unreachable!("no other constructor gives text") };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        settings.take(&key("text that is not empty".to_owned()), default.to_owned(), text)
    }
}

impl Value for bool {
    fn take(setting: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self {
        let Kind::Switch { default } = setting.kind else { unreachable!("no other constructor gives a switch") };
        settings.take(&key("true or false".to_owned()), default, |text| text.parse().ok())
    }
}

impl Value for Option<String> {
    fn take(_: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        settings.optional(&key("text that is not empty".to_owned()).secret(), text)
    }
}

type AnyValue = Box<dyn Any + Send + Sync>;
type Take = dyn Fn(Key, &mut Settings) -> AnyValue + Send + Sync;

/// A setting whose type is not known here: what a service hands to its process.
#[derive(Clone)]
pub struct Declared {
    name: &'static str,
    doc: &'static str,
    take: Arc<Take>,
}

impl Declared {
    /// Of a setting.
    pub fn new<T: Value>(setting: &'static Setting<T>) -> Self {
        let take = move |key: Key, settings: &mut Settings| -> AnyValue {
            let key = |allowed| Key { allowed, ..key.clone() };
            Box::new(T::take(setting, key, settings))
        };
        Self { name: setting.name, doc: setting.doc, take: Arc::new(take) }
    }

    /// The last part of its key.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its purpose, as its author says it.
    pub fn doc(&self) -> &'static str {
        self.doc
    }
}

/// The values of one service's own settings. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Values(Arc<BTreeMap<&'static str, AnyValue>>);

impl Values {
    /// Reads all that a service declares, each under `services.SERVICE.NAME`.
    pub fn take(service: &str, declared: &[Declared], settings: &mut Settings) -> Self {
        let values = declared.iter().map(|setting| {
            let key = Key::new(format!("services.{service}.{}", setting.name), "");
            (setting.name, (setting.take)(key, settings))
        });
        Self(Arc::new(values.collect()))
    }

    /// The value of a setting; `None` if the service does not declare it.
    pub fn get<T: Value>(&self, setting: &Setting<T>) -> Option<T> {
        self.0.get(setting.name)?.downcast_ref().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Error, Source};

    static SIZE: Setting<u64> = Setting::bytes("largest", 12 << 20, 1 << 10, 15 << 20);
    static COUNT: Setting<u64> = Setting::number("count", 2, 1, 64);
    static PAUSE: Setting<Duration> =
        Setting::time("pause", Duration::from_secs(1), Duration::ZERO, Duration::from_secs(60));
    static NAME: Setting<String> = Setting::text("name", "anna");
    static EAGER: Setting<bool> = Setting::switch("eager", false);
    static KEY: Setting<Option<String>> = Setting::secret("key");

    fn read(set: &[(&str, &str)]) -> (Values, Settings) {
        let mut settings = Settings::default();
        for (key, value) in set {
            settings.set(&format!("services.a.{key}"), value, Source::Flag("--set".to_owned()));
        }
        let declared = [
            Declared::new(&SIZE),
            Declared::new(&COUNT),
            Declared::new(&PAUSE),
            Declared::new(&NAME),
            Declared::new(&EAGER),
            Declared::new(&KEY),
        ];
        (Values::take("a", &declared, &mut settings), settings)
    }

    #[test]
    fn values_default_and_are_set() {
        let (values, settings) = read(&[("largest", "1MiB"), ("eager", "true"), ("key", "hush")]);
        assert_eq!(values.get(&SIZE), Some(1 << 20));
        assert_eq!(values.get(&COUNT), Some(2));
        assert_eq!(values.get(&PAUSE), Some(Duration::from_secs(1)));
        assert_eq!(values.get(&NAME).as_deref(), Some("anna"));
        assert_eq!((values.get(&EAGER), values.get(&KEY)), (Some(true), Some(Some("hush".to_owned()))));
        let listing = settings.finish().unwrap().to_string();
        assert!(listing.contains("services.a.largest = \"1MiB\"") && listing.contains("# --set"), "{listing}");
        assert!(listing.contains("services.a.count = 2") && listing.contains("# default"), "{listing}");
        assert!(!listing.contains("hush") && listing.contains("services.a.key = \"(secret)\""), "{listing}");
    }

    #[test]
    fn values_out_of_range_are_all_reported() {
        let set = [("largest", "1B"), ("count", "65"), ("pause", "2min"), ("name", ""), ("eager", "yes"), ("key", "")];
        let Err(Error::Invalid(problems)) = read(&set).1.finish() else { panic!("it is valid") };
        assert_eq!(problems.len(), set.len(), "{problems:?}");
        let largest = problems.iter().map(ToString::to_string).find(|problem| problem.contains("largest")).unwrap();
        assert_eq!(largest, "--set: `services.a.largest` must be a size from 1KiB to 15MiB, such as 12MiB, not `1B`");
    }

    #[test]
    fn a_setting_that_is_not_declared_has_no_value() {
        static OTHER: Setting<u64> = Setting::number("other", 1, 1, 1);
        assert_eq!(read(&[]).0.get(&OTHER), None);
    }
}
