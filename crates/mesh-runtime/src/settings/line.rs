//! The lines of mistakes in TOML files.

/// What is wrong with a TOML file, in one line that begins with its number: `line 3: …`.
pub fn toml_mistake(text: &str, error: &toml::de::Error) -> String {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    format!("line {line}: {}", error.message().replace('\n', ", "))
}

/// The number of the line with this byte of a text.
pub fn line_of(text: &str, at: usize) -> usize {
    let before = text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    // A text that ends too early has its mistake behind its last line.
    (before + 1).min(text.lines().count().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistake_in_toml_names_its_line() {
        for (text, line) in [
            ("= 1", 1),
            ("a = 1\n= 1\nb = 2", 2),
            ("a = 1\nb = \"é", 2),
            ("a = 1\n\nb = [\n", 3),
            ("[a]\nx = 1\n[a]\n", 3),
        ] {
            let error = text.parse::<toml::Table>().unwrap_err();
            let mistake = toml_mistake(text, &error);
            assert!(mistake.starts_with(&format!("line {line}: ")) && !mistake.contains('\n'), "{text}: {mistake}");
        }
        assert_eq!((line_of("", 0), line_of("a\nb", 1), line_of("a\nb", 2), line_of("a\n", 9)), (1, 1, 2, 1));
    }
}
