//! The settings that a service declares, and their values in a process.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::key::Key;
use super::merged::Settings;
use super::setting::{Setting, Value};

type AnyValue = Box<dyn Any + Send + Sync>;
type Take = dyn Fn(Key, &mut Settings) -> AnyValue + Send + Sync;

/// A setting without its type, which a service hands to its process.
#[derive(Clone)]
pub struct Declared {
    name: &'static str,
    doc: &'static str,
    take: Arc<Take>,
}

impl Declared {
    /// Removes the type of a setting.
    pub fn new<T: Value>(setting: &'static Setting<T>) -> Self {
        let take = move |key: Key, settings: &mut Settings| -> AnyValue {
            let key = |allowed| Key { allowed, ..key.clone() };
            Box::new(T::take(setting, key, settings))
        };
        Self { name: setting.name(), doc: setting.doc, take: Arc::new(take) }
    }

    /// The last part of the key.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// The values of the settings of one service. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Values(Arc<BTreeMap<&'static str, AnyValue>>);

impl Values {
    /// Reads all settings of a service, each under `services.SERVICE.NAME`. Mistakes are noted as problems.
    pub fn take(service: &str, declared: &[Declared], settings: &mut Settings) -> Self {
        let values = declared.iter().map(|setting| {
            let key = Key::new(format!("services.{service}.{}", setting.name), "").doc(setting.doc);
            (setting.name, (setting.take)(key, settings))
        });
        Self(Arc::new(values.collect()))
    }

    /// The value of a setting; `None` if the service does not declare it.
    pub fn get<T: Value>(&self, setting: &Setting<T>) -> Option<T> {
        self.0.get(setting.name())?.downcast_ref().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Error, Source};
    use std::time::Duration;

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
    fn values_are_defaults_unless_they_are_set() {
        let (values, settings) = read(&[("largest", "1MiB"), ("eager", "true"), ("key", "hush")]);
        assert_eq!(values.get(&SIZE), Some(1 << 20));
        assert_eq!(values.get(&COUNT), Some(2));
        assert_eq!(values.get(&PAUSE), Some(Duration::from_secs(1)));
        assert_eq!(values.get(&NAME).as_deref(), Some("anna"));
        assert_eq!((values.get(&EAGER), values.get(&KEY)), (Some(true), Some(Some("hush".to_owned()))));
        let listing = settings.finish().unwrap().to_string();
        assert!(listing.contains("services.a.largest = \"1MiB\"") && listing.contains("# --set"), "{listing}");
        assert!(listing.contains("services.a.count = 2") && listing.contains("# default"), "{listing}");
        assert!(!listing.contains("hush") && listing.contains("# services.a.key is set, and secret"), "{listing}");
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
    fn undeclared_setting_has_no_value() {
        static OTHER: Setting<u64> = Setting::number("other", 1, 1, 1);
        assert_eq!(read(&[]).0.get(&OTHER), None);
    }
}
