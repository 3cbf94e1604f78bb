//! The twin of a secret key, `KEY_file`: the value is the content of the file that it names, without the white space
//! around it. Orchestrators mount secrets as files, and what is in the environment is inherited by every child.
//!
//! The file is read once, at the start.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The key that names the file of a secret.
pub(super) fn twin(key: &str) -> String {
    format!("{key}_file")
}

/// Reads a secret. The error continues a sentence that the key begins; it has nothing of the content.
pub(super) fn read(path: &str) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("names a file that cannot be read, {path}: {error}");
    // To open a pipe would wait for its writer.
    if !std::fs::metadata(Path::new(path)).map_err(unreadable)?.is_file() {
        return Err(format!("does not name a file: {path}"));
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content)).map_err(unreadable)?;
    if content.len() as u64 > MAX_FILE {
        return Err(format!("names a file above 64 KiB, {path}: a secret is smaller"));
    }
    let text = String::from_utf8(content).map_err(|_| format!("names a file that is not UTF-8: {path}"))?;
    match text.trim() {
        "" => Err(format!("names a file without a secret: {path}")),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{Error, Key, Settings, Source};

    const TOKEN: &str = "consul.token";

    fn set(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (key, value) in pairs {
            settings.set(key, value, Source::Variable("MESH__X".to_owned()));
        }
        settings
    }

    fn token(settings: &mut Settings) -> Option<String> {
        let parse = |text: &str| (!text.contains(' ')).then(|| text.to_owned());
        settings.optional(&Key::new(TOKEN, "a token without spaces").secret(), parse)
    }

    fn problems(settings: Settings) -> Vec<String> {
        let Err(Error::Invalid(problems)) = settings.finish() else { panic!("it is valid") };
        problems.iter().map(ToString::to_string).collect()
    }

    fn file(content: &[u8]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        (folder, path.display().to_string())
    }

    #[test]
    fn secret_file_has_the_value() {
        let (_folder, path) = file(b"\n hush \r\n");
        let mut settings = set(&[("consul.token_file", &path)]);
        assert_eq!(settings.source(TOKEN), Some(&Source::Variable("MESH__X".to_owned())));
        assert_eq!(token(&mut settings).as_deref(), Some("hush"));
        let listing = settings.finish().unwrap().to_string();
        assert!(listing.contains("# consul.token is set, and secret") && !listing.contains("hush"), "{listing}");
    }

    #[test]
    fn secret_file_of_a_key_with_a_default_has_the_value() {
        let (_folder, path) = file(b"hush");
        let mut settings = set(&[("password_file", &path)]);
        let key = Key::new("password", "text").secret();
        assert_eq!(settings.take(&key, "default".to_owned(), |text| Some(text.to_owned())), "hush");
        assert!(!settings.finish().unwrap().to_string().contains("default"));
    }

    #[test]
    fn secret_and_its_file_contradict_each_other() {
        let (_folder, path) = file(b"hush");
        let mut settings = set(&[(TOKEN, "hush, too"), ("consul.token_file", &path)]);
        assert_eq!(token(&mut settings), None);
        let expected = "configuration: `consul.token_file` is set, and so is `consul.token`: remove one of them";
        assert_eq!(problems(settings), [expected]);
    }

    #[test]
    fn secret_file_that_cannot_be_used_is_reported_without_its_content() {
        for (content, expected) in [
            (&b"hush hush"[..], "names a file with a value that is not allowed"),
            (b"", "names a file without a secret"),
            (b" \n", "names a file without a secret"),
            (b"hush\xff", "names a file that is not UTF-8"),
            (&[b'h'; 65537], "names a file above 64 KiB"),
        ] {
            let (_folder, path) = file(content);
            let mut settings = set(&[("consul.token_file", &path)]);
            assert_eq!(token(&mut settings), None);
            let problems = problems(settings).join("\n");
            assert!(
                problems.starts_with("MESH__X: `consul.token_file` names") && problems.contains(expected),
                "{problems}"
            );
            assert!(!problems.contains("hush") && !problems.contains("hhh"), "{problems}");
        }
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("absent")] {
            let mut settings = set(&[("consul.token_file", &path.display().to_string())]);
            assert_eq!(token(&mut settings), None);
            assert!(problems(settings).join("").contains("file"), "{}", path.display());
        }
    }

    #[test]
    fn secret_file_of_another_process_is_not_read() {
        let mut settings = set(&[("consul.token_file", "/absent")]);
        settings.optional(&Key::new(TOKEN, "a token").secret().elsewhere(), |text| Some(text.to_owned()));
        assert!(settings.finish().is_ok());
    }

    #[test]
    fn only_secrets_have_files() {
        let mut settings = set(&[("name_file", "/absent"), ("consul.token_fil", "x")]);
        settings.optional(&Key::new("name", "text"), |text| Some(text.to_owned()));
        token(&mut settings);
        let problems = problems(settings).join("\n");
        assert!(problems.contains("`name_file` is not a key"), "{problems}");
        assert!(problems.contains("did you mean `consul.token_file`?"), "{problems}");
    }
}
