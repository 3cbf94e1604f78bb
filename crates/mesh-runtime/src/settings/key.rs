//! One key, as the module that reads it declares it.

/// A key: its path, what is allowed, and how it is treated.
#[derive(Clone, Debug)]
pub struct Key {
    pub(super) path: String,
    pub(super) allowed: String,
    pub(super) secret: bool,
    pub(super) elsewhere: bool,
}

impl Key {
    /// `path` is its name in the file, such as `limits.streams`; `allowed` completes the sentence "it must be …".
    pub fn new(path: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { path: path.into(), allowed: allowed.into(), secret: false, elsewhere: false }
    }

    /// Its value is never shown.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// It concerns another process that shares the file: it is checked, and not listed as being in force here.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }
}
