//! The declaration of one key, by the module that reads it.

/// A key: its path, its allowed values, and its treatment.
#[derive(Clone, Debug)]
pub struct Key {
    pub(super) path: String,
    pub(super) allowed: String,
    pub(super) secret: bool,
    pub(super) elsewhere: bool,
    pub(super) doc: &'static str,
    pub(super) instead: Option<fn(&str) -> Option<String>>,
}

impl Key {
    /// `path` is the name in the file, such as `limits.streams`; `allowed` completes the sentence "it must be …".
    pub fn new(path: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { path: path.into(), allowed: allowed.into(), secret: false, elsewhere: false, doc: "", instead: None }
    }

    /// Marks the value as a secret, which is never shown.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The purpose of the key, one line for an operator: `--print-config` shows it.
    #[must_use]
    pub fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// For a value that is not allowed, `instead` returns the text that was probably meant, if it knows.
    #[must_use]
    pub fn instead(mut self, instead: fn(&str) -> Option<String>) -> Self {
        self.instead = Some(instead);
        self
    }

    /// Marks a key of another process that shares the file. The value is checked, and not listed as in force here.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }
}
