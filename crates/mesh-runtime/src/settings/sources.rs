//! Reads the sources of settings: a TOML file and the environment.

use std::ffi::OsString;
use std::path::Path;

use super::line::toml_mistake;
use super::merged::Settings;
use super::source::Source;

impl Settings {
    /// Reads a TOML file. A file that cannot be read or parsed is noted as a problem.
    pub fn read_file(&mut self, path: &Path) {
        let source = Source::File(path.to_owned());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problem("", source, format!("cannot be read: {error}")),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.flatten("", &table, &source),
            Err(error) => self.problem("", source, toml_mistake(&text, &error)),
        }
    }

    fn flatten(&mut self, prefix: &str, table: &toml::Table, source: &Source) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(table) => self.flatten(&key, table, source),
                toml::Value::String(text) => self.set(&key, text, source.clone()),
                toml::Value::Integer(number) => self.set(&key, &number.to_string(), source.clone()),
                toml::Value::Float(number) => self.set(&key, &number.to_string(), source.clone()),
                toml::Value::Boolean(truth) => self.set(&key, &truth.to_string(), source.clone()),
                toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                    let message = format!("is a list of tables: write [{key}], or [{key}.NAME], in single brackets");
                    self.problem(key, source.clone(), message);
                }
                other => self.problem(key, source.clone(), format!("must be text, not {}", other.type_str())),
            }
        }
    }

    /// Reads each variable that begins with `MESH__`: `MESH__LOG__FORMAT` sets `log.format`. Those of OpenTelemetry are
    /// kept for [`otel`](Self::otel).
    pub fn read_environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if name.starts_with("OTEL_") {
                self.otel.insert(name.to_owned(), value.to_string_lossy().into_owned());
                continue;
            }
            let Some(path) = name.strip_prefix("MESH__") else {
                if let Some(rest) = name.to_uppercase().strip_prefix("MESH_") {
                    self.nearly.push((name.to_owned(), rest.trim_start_matches('_').to_lowercase().replace("__", ".")));
                }
                continue;
            };
            let source = Source::Variable(name.to_owned());
            let key = path.to_lowercase().replace("__", ".");
            match value.into_string() {
                Ok(value) => self.set(&key, &value, source),
                Err(_) => self.problem(key, source, "is not UTF-8".to_owned()),
            }
        }
    }
}
