//! A setting of a service: key, type, default, range and documentation.
//!
//! See: docs/decisions/0020-settings-of-a-service.md

use std::marker::PhantomData;
use std::time::Duration;

use super::key::Key;
use super::listing::Shown;
use super::merged::Settings;
use super::parse;

/// A setting of a service, under the key `services.NAME.KEY`. Declare it as a constant, hand it to the service, and
/// read its value with it. The constructors check the key (lower-case letters, digits and underscores) and that the
/// default is in range: a constant that breaks a rule does not compile.
///
/// ```
/// # use mesh_runtime::settings::Setting;
/// const CONCURRENCY: Setting<u64> = Setting::number("concurrency", 2, 1, 64).doc("Pictures computed at the same time");
/// const LARGEST_IMAGE: Setting<u64> = Setting::bytes("largest_image", 12 << 20, 1 << 10, 15 << 20);
/// const API_KEY: Setting<Option<String>> = Setting::secret("api_key");
/// ```
///
/// ```compile_fail
/// # use mesh_runtime::settings::Setting;
/// const CONCURRENCY: Setting<u64> = Setting::number("concurrency", 65, 1, 64);
/// ```
#[derive(Debug)]
pub struct Setting<T> {
    name: &'static str,
    pub(super) doc: &'static str,
    kind: Kind,
    value: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Number { default: u64, least: u64, most: u64 },
    Bytes { default: u64, least: u64, most: u64 },
    Time { default: Duration, least: Duration, most: Duration },
    Text { default: &'static str },
    Switch { default: bool },
    Secret,
}

impl<T> Setting<T> {
    const fn new(name: &'static str, kind: Kind) -> Self {
        assert!(is_key(name), "the key of a setting has lower-case letters, digits and underscores");
        Self { name, doc: "", kind, value: PhantomData }
    }

    /// The last part of the key.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Sets the documentation: the purpose, and when to change the value. One line, for an operator.
    #[must_use]
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }
}

/// Whether an environment variable can name it, too.
const fn is_key(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

impl Setting<u64> {
    /// A whole number from `least` to `most`, both included.
    pub const fn number(name: &'static str, default: u64, least: u64, most: u64) -> Self {
        assert!(least <= default && default <= most, "the default of a setting is in its range");
        Self::new(name, Kind::Number { default, least, most })
    }

    /// A size in bytes from `least` to `most`, both included, set as `12MiB`.
    pub const fn bytes(name: &'static str, default: u64, least: u64, most: u64) -> Self {
        assert!(least <= default && default <= most, "the default of a setting is in its range");
        Self::new(name, Kind::Bytes { default, least, most })
    }
}

impl Setting<Duration> {
    /// A time from `least` to `most`, both included, set as `30s`.
    pub const fn time(name: &'static str, default: Duration, least: Duration, most: Duration) -> Self {
        let (low, value, high) = (least.as_nanos(), default.as_nanos(), most.as_nanos());
        assert!(low <= value && value <= high, "the default of a setting is in its range");
        Self::new(name, Kind::Time { default, least, most })
    }
}

impl Setting<String> {
    /// Any text that is not empty.
    pub const fn text(name: &'static str, default: &'static str) -> Self {
        assert!(!default.is_empty(), "the default of a text is not empty");
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
    /// A secret text, which neither `--print-config` nor a log line nor an error shows; `None` if it is not set.
    pub const fn secret(name: &'static str) -> Self {
        Self::new(name, Kind::Secret)
    }
}

/// A type that a setting of a service may have.
pub trait Value: Clone + Send + Sync + 'static {
    /// Reads a setting of this type. A value that is not allowed is noted as a problem, and the default is returned.
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
            _ => unreachable!("only `number` and `bytes` build a Setting<u64>"),
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
            unreachable!("only `time` builds a Setting<Duration>")
        };
        let [least_shown, most_shown, such] = [least, most, default].map(|time| time.shown());
        let units = parse::TIME_UNITS;
        let key = key(format!("a time from {least_shown} to {most_shown}, such as {such} ({units})"));
        settings.take(&key, default, parse::time(least, most))
    }
}

impl Value for String {
    fn take(setting: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self {
        let Kind::Text { default } = setting.kind else { unreachable!("only `text` builds a Setting<String>") };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        settings.take(&key("text that is not empty".to_owned()), default.to_owned(), text)
    }
}

impl Value for bool {
    fn take(setting: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self {
        let Kind::Switch { default } = setting.kind else { unreachable!("only `switch` builds a Setting<bool>") };
        settings.take(&key("true or false".to_owned()), default, |text| text.parse().ok())
    }
}

impl Value for Option<String> {
    fn take(_: &Setting<Self>, key: impl Fn(String) -> Key, settings: &mut Settings) -> Self {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        settings.optional(&key("text that is not empty".to_owned()).secret(), text)
    }
}
