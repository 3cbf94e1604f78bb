//! Intentions in a file.
//!
//! ```toml
//! catalog = ["artwork", "composer: catalog.v1.CatalogService/BatchGetTitles"]
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use mesh_runtime::settings::{line_of, toml_mistake};
use toml::Spanned;

use super::table::{Calls, Permission, Rule, System, Table};

/// The table in a file, without what is unknown, and what that is. Each is the end of a sentence that the key begins.
pub(super) fn read(path: &Path, system: &System) -> Result<(Table, Vec<String>), String> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("names a file that cannot be read, {shown}: {error}"))?;
    let lists: BTreeMap<Spanned<String>, Vec<Spanned<String>>> = toml::from_str(&text).map_err(|error| {
        format!("names a file that is no table of lists of texts, {shown}: {}", toml_mistake(&text, &error))
    })?;
    if lists.is_empty() {
        return Err(format!("names a file without a line, {shown}: nobody could call anything"));
    }
    let (mut table, mut unknown) = (Table::default(), Vec::new());
    let line = |span: Range<usize>| line_of(&text, span.start);
    for (called, callers) in lists {
        let (at, called) = (line(called.span()), called.into_inner());
        if !system.names.contains(called.as_str()) {
            unknown.push(format!(
                "names a file with an unknown service, {shown}: line {at}: `{called}`; name one without a contract in \
                 sidecar.peers"
            ));
        }
        let mut rules = Vec::new();
        for named in &callers {
            let (at, named) = (line(named.span()), named.get_ref());
            match caller(named, &called, system) {
                Ok((caller, calls)) => add(&mut rules, caller, Permission { calls, allows: true }),
                Err(why) => unknown.push(format!("names a file with {why}, {shown}: line {at}: `{named}` of {called}")),
            }
        }
        table.0.insert(called, rules);
    }
    Ok((table, unknown))
}

/// A caller has one rule.
fn add(rules: &mut Vec<Rule>, caller: &str, permission: Permission) {
    match rules.iter_mut().find(|rule| rule.caller.as_deref() == Some(caller)) {
        Some(rule) => rule.permissions.push(permission),
        None => rules.push(Rule { caller: Some(caller.to_owned()), permissions: vec![permission] }),
    }
}

/// `SERVICE`, or `SERVICE: PACKAGE.Service/Method`.
fn caller<'a>(text: &'a str, called: &str, system: &System) -> Result<(&'a str, Calls), &'static str> {
    let (service, method) = text.split_once(':').map_or((text, None), |(service, method)| (service, Some(method)));
    let (service, method) = (service.trim(), method.map(str::trim));
    if !system.names.contains(service) {
        return Err("an unknown caller");
    }
    let Some(path) = method else { return Ok((service, Calls::All)) };
    let known = system.methods.find(&format!("/{path}"));
    if path.split_once('/') != Some((known.service, known.name)) {
        return Err("an unknown method");
    }
    if known.package() != called && !known.is_shared() {
        return Err("a method of another service");
    }
    Ok((service, Calls::Path(format!("/{path}"))))
}
