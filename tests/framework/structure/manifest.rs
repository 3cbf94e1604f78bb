//! What a Cargo.toml says: the package's name, and what it depends on.

use toml::{Table, Value};

pub(crate) struct Manifest {
    /// The file, from the root of the tree.
    pub(crate) file: String,
    pub(crate) package: String,
    pub(crate) dependencies: Vec<Dependency>,
}

pub(crate) struct Dependency {
    pub(crate) name: String,
    /// In `[dev-dependencies]`.
    pub(crate) dev: bool,
    pub(crate) line: usize,
}

impl Manifest {
    pub(crate) fn read(file: &str, text: &str) -> Self {
        let manifest: Table = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let package = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
        let platforms = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
        let tables = platforms.filter_map(Value::as_table).chain([&manifest]);
        let mut dependencies = Vec::new();
        for table in tables {
            for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
                for (key, value) in table.get(section).and_then(Value::as_table).into_iter().flatten() {
                    let renamed = value.get("package").and_then(Value::as_str);
                    dependencies.push(Dependency {
                        name: renamed.unwrap_or(key).to_owned(),
                        dev: section == "dev-dependencies",
                        line: line_of(text, section, key),
                    });
                }
            }
        }
        Self { file: file.to_owned(), package: package.unwrap_or_default().to_owned(), dependencies }
    }
}

/// The line that has `key` in `section`, also in the section of a platform. 1 if it is written in another way.
fn line_of(text: &str, section: &str, key: &str) -> usize {
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(header) = line.strip_prefix('[').and_then(|header| header.strip_suffix(']')) {
            let (own, with_key) = (section.to_owned(), format!("{section}.{key}"));
            let is = |name: &str| header == name || header.ends_with(&format!(".{name}"));
            if is(&with_key) {
                return number;
            }
            inside = is(&own);
        } else if inside && line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '.', '='])) {
            return number;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_names_each_dependency_with_its_line() {
        let text = "[package]\nname = \"it\"\n\n[dependencies]\na.workspace = true\nab = { package = \"b\", path = \"../b\" }\n\
                    [dev-dependencies]\na = \"1\"\n[build-dependencies.c]\npath = \"../c\"\n\
                    [target.'cfg(unix)'.dependencies]\nd = \"1\"\n";
        let manifest = Manifest::read("Cargo.toml", text);
        let mut found: Vec<_> =
            manifest.dependencies.iter().map(|found| (&*found.name, found.dev, found.line)).collect();
        found.sort_unstable();
        assert_eq!(manifest.package, "it");
        assert_eq!(found, [("a", false, 5), ("a", true, 8), ("b", false, 6), ("c", false, 9), ("d", false, 12)]);
    }
}
