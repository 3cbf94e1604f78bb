//! The modules of a crate, and the file that a path in one of them leads to.
//!
//! - A name that a module re-exports leads to the file that defines it.
//! - A name from another crate that a module re-exports leads to that module.
//! - Does not: follow `#[path]`; such a module counts as another crate.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Kind, Reference, Source};

/// The files of one crate.
pub(crate) struct Crate {
    pub(crate) files: Vec<File>,
    /// Each module, also one within a file, with its file.
    modules: BTreeMap<Vec<String>, usize>,
    /// Modules whose file is elsewhere: `#[path]`.
    elsewhere: BTreeSet<Vec<String>>,
}

pub(crate) struct File {
    /// From the root of the tree.
    pub(crate) name: String,
    pub(crate) module: Vec<String>,
    pub(crate) source: Source,
}

/// What a path leads to.
enum Place {
    Module(Vec<String>),
    /// Something within this file.
    Item(usize),
    OtherCrate,
}

/// How many re-exports are followed one after another. Two modules may re-export each other.
const STEPS: usize = 8;

impl Crate {
    /// Reads the crate whose root is the file `root`. Of several `folders`, a file in an earlier one replaces the file
    /// of the same name in a later one. `load` returns a file's text.
    pub(crate) fn read(folders: &[String], root: &str, load: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut read = Self { files: Vec::new(), modules: BTreeMap::new(), elsewhere: BTreeSet::new() };
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        let find = |file: &str| {
            let name = |folder: &String| format!("{folder}/{file}").trim_start_matches('/').to_owned();
            folders.iter().map(name).find_map(|name| load(&name).map(|text| (name, text)))
        };
        read.add(&[], &[root.to_owned()], folder, &find);
        read
    }

    /// Adds the first of the files `names` that exists, and the files of its modules, which lie in `folder`.
    fn add(
        &mut self,
        module: &[String],
        names: &[String],
        folder: &str,
        find: &dyn Fn(&str) -> Option<(String, String)>,
    ) {
        let Some((name, text)) = names.iter().find_map(|name| find(name)) else {
            self.elsewhere.insert(module.to_vec());
            return;
        };
        let source = Source::read(&text);
        let file = self.files.len();
        self.modules.insert(module.to_vec(), file);
        let children: Vec<_> =
            source.modules.iter().map(|child| (child.inline, below(&child.scope, &child.name))).collect();
        self.files.push(File { name, module: module.to_vec(), source });
        for (inline, path) in children {
            let child = [module, &path].concat();
            if inline {
                self.modules.insert(child, file);
            } else {
                let folder = format!("{folder}/{}", path.join("/")).trim_start_matches('/').to_owned();
                self.add(&child, &[format!("{folder}.rs"), format!("{folder}/mod.rs")], &folder, find);
            }
        }
    }

    /// Where `found` in `file` leads within this crate: its path as written, from the root of the crate, and the file.
    pub(crate) fn leads_to(&self, file: &File, found: &Reference) -> Option<(Vec<String>, usize)> {
        let module = [&*file.module, &found.scope].concat();
        let to = match self.resolve(&module, &found.path, STEPS) {
            Place::Module(module) => *self.modules.get(&module)?,
            Place::Item(to) => to,
            Place::OtherCrate => return None,
        };
        let (start, rest) = start(&module, &found.path);
        Some(([start, rest.to_vec()].concat(), to))
    }

    /// What `path` leads to, written in `module`.
    fn resolve(&self, module: &[String], path: &[String], steps: usize) -> Place {
        let (start, rest) = start(module, path);
        let relative = rest.len() == path.len();
        if relative && rest.first().is_some_and(|name| !self.begins_path(&start, name, rest.len() > 1, steps)) {
            return Place::OtherCrate;
        }
        self.follow(start, rest, steps)
    }

    /// Whether `name` means something of this crate at the beginning of a path in `module`. A function such as `uuid`
    /// does not hide the crate of that name: no path leads into a function.
    fn begins_path(&self, module: &[String], name: &str, longer: bool, steps: usize) -> bool {
        let may_be_function = longer && name.starts_with(char::is_lowercase);
        self.knows(module, name, steps)
            && (!may_be_function || matches!(self.follow(module.to_vec(), &[name.to_owned()], steps), Place::Module(_)))
    }

    /// What `path` leads to from `module`.
    fn follow(&self, mut module: Vec<String>, path: &[String], steps: usize) -> Place {
        for (at, name) in path.iter().enumerate() {
            let child = below(&module, name);
            if self.modules.contains_key(&child) {
                module = child;
                continue;
            }
            let Some(&here) = self.modules.get(&module).filter(|_| !self.elsewhere.contains(&child)) else {
                return Place::OtherCrate;
            };
            if self.defines(&module, name) || steps == 0 {
                return Place::Item(here);
            }
            if let Some(export) = self.export(&module, name) {
                return match self.resolve(&module, &export.path, steps - 1) {
                    Place::Module(module) => self.follow(module, &path[at + 1..], steps - 1),
                    Place::Item(file) => Place::Item(file),
                    Place::OtherCrate => Place::Item(here),
                };
            }
            let glob = self.globs(&module, steps).into_iter().find(|other| self.knows(other, name, steps - 1));
            return glob.map_or(Place::Item(here), |other| self.follow(other, &path[at..], steps - 1));
        }
        Place::Module(module)
    }

    fn knows(&self, module: &[String], name: &str, steps: usize) -> bool {
        self.modules.contains_key(&below(module, name))
            || self.defines(module, name)
            || self.export(module, name).is_some()
            || (steps > 0 && self.globs(module, steps).iter().any(|other| self.knows(other, name, steps - 1)))
    }

    fn defines(&self, module: &[String], name: &str) -> bool {
        let file = self.modules.get(module).map(|file| &self.files[*file]);
        file.is_some_and(|file| {
            file.source.items.iter().any(|(scope, item)| item == name && module[file.module.len()..] == **scope)
        })
    }

    fn export(&self, module: &[String], name: &str) -> Option<&Reference> {
        let binds = |found: &&Reference| matches!(&found.kind, Kind::Use(Some(bound)) if bound == name);
        self.uses(module).into_iter().find(binds)
    }

    /// The modules of this crate that `module` names in a `use …::*`. The path of one `use …::*` may begin with a name
    /// that another one brings in. Only one such step is followed: each step looks through every `use …::*` again.
    fn globs(&self, module: &[String], steps: usize) -> Vec<Vec<String>> {
        let globs = self.uses(module).into_iter().filter(|found| found.kind == Kind::Glob && steps > 0);
        let modules = globs.filter_map(|found| match self.resolve(module, &found.path, steps.min(2) - 1) {
            Place::Module(other) if other != module => Some(other),
            _ => None,
        });
        modules.collect()
    }

    fn uses(&self, module: &[String]) -> Vec<&Reference> {
        let Some(file) = self.modules.get(module).map(|file| &self.files[*file]) else { return Vec::new() };
        let scope = &module[file.module.len()..];
        file.source.references.iter().filter(|found| *found.scope == *scope).collect()
    }
}

fn below(module: &[String], name: &str) -> Vec<String> {
    [module, &[name.to_owned()]].concat()
}

/// Where `path`, written in `module`, starts, and what is left of it.
fn start<'a>(module: &[String], path: &'a [String]) -> (Vec<String>, &'a [String]) {
    let (mut module, mut rest) = (module.to_vec(), path);
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "crate" => module.clear(),
            "self" => {}
            "super" => drop(module.pop()),
            _ => break,
        }
        rest = others;
    }
    (module, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other files that src/a.rs uses.
    fn used_by_a(files: &[(&str, &str)]) -> Vec<String> {
        let find = |name: &str| files.iter().find(|(file, _)| *file == name);
        let load = |name: &str| find(name).map(|(_, text)| (*text).to_owned());
        let read = Crate::read(&[String::new()], "src/lib.rs", &load);
        let a = read.files.iter().find(|file| file.name == "src/a.rs").expect("src/a.rs");
        let used = a.source.references.iter().filter_map(|found| read.leads_to(a, found));
        let used = used.map(|(_, to)| &read.files[to].name).filter(|name| **name != a.name);
        used.map(|name| name.replace("src/", "")).collect()
    }

    #[test]
    fn re_export_leads_to_the_file_that_defines_the_name() {
        let b = [("src/b.rs", "mod c;\npub use c::C as D;\npub use std::fmt;"), ("src/b/c.rs", "pub struct C;")];
        let used_by =
            |a: &str| used_by_a(&[("src/lib.rs", "mod a; mod b; pub use b::D as E;"), ("src/a.rs", a), b[0], b[1]]);
        assert_eq!(used_by("use crate::b::D;"), ["b/c.rs"]);
        assert_eq!(used_by("use crate::E;"), ["b/c.rs"]);
        assert_eq!(used_by("use super::b;\nfn f() { b::c::g() }"), ["b.rs", "b/c.rs"]);
        assert_eq!(used_by("use super::b::fmt;"), ["b.rs"], "what another crate defines leads to the re-export");
        assert_eq!(used_by("use super::b::Unknown;"), ["b.rs"]);
        assert_eq!(used_by("mod inner { use super::super::b::D; }"), ["b/c.rs"]);
        assert_eq!(used_by("use crate::F;"), ["lib.rs"]);
        assert_eq!(used_by("mod elsewhere; use self::elsewhere::G;"), Vec::<String>::new());
        assert_eq!(used_by("use ::b::D; use other::b::D;"), Vec::<String>::new());
        assert_eq!(used_by("use uuid::Uuid; fn uuid() {}"), Vec::<String>::new());
        assert_eq!(used_by("use super::b::uuid; use uuid::Uuid;"), ["b.rs"]);
    }

    #[test]
    fn re_exports_in_a_circle_end() {
        let files = [("src/lib.rs", "mod a; mod b;"), ("src/a.rs", "pub use crate::b::*; pub use crate::b::C;")];
        assert!(
            !used_by_a(&[files[0], files[1], ("src/b.rs", "pub use crate::a::*; pub use crate::a::C;")]).is_empty()
        );
    }

    #[test]
    fn file_of_an_earlier_folder_replaces_the_later_one() {
        let files = [
            ("more/src/a.rs", ""),
            ("plain/src/lib.rs", "mod a; mod b;"),
            ("plain/src/a.rs", ""),
            ("plain/src/b.rs", ""),
        ];
        let find = |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned());
        let read = Crate::read(&["more", "plain"].map(str::to_owned), "src/lib.rs", &find);
        let names: Vec<_> = read.files.iter().map(|file| &*file.name).collect();
        assert_eq!(names, ["plain/src/lib.rs", "more/src/a.rs", "plain/src/b.rs"]);
    }
}
