//! Reads what a Rust file names: its `use` declarations, its other paths, its modules and its items.
//!
//! - Leaves out: comments, strings, and every item under `#[cfg(test)]`.
//! - Does not: expand macros, know types.

use super::tokens::{Token, tokens};

/// What one file names.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) references: Vec<Reference>,
    pub(crate) modules: Vec<Module>,
    /// Items at the level of a module: the modules of this file around the item, and its name.
    pub(crate) items: Vec<(Vec<String>, String)>,
}

/// `mod name;` or `mod name { … }`.
pub(crate) struct Module {
    /// The modules of this file around it, the outermost first.
    pub(crate) scope: Vec<String>,
    pub(crate) name: String,
    pub(crate) inline: bool,
}

/// A path, in a `use` or elsewhere.
pub(crate) struct Reference {
    pub(crate) line: usize,
    /// The modules of this file around it, the outermost first.
    pub(crate) scope: Vec<String>,
    /// As written, from `crate`, `self` or `super` if it starts with one.
    pub(crate) path: Vec<String>,
    pub(crate) kind: Kind,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Kind {
    /// A path in code.
    Path,
    /// A `use`, with the name that it brings into the module, if it does.
    Use(Option<String>),
    /// A `use` that ends in `*`.
    Glob,
}

impl Reference {
    /// As a failure shows it.
    pub(crate) fn text(&self) -> String {
        let path = self.path.join("::");
        match self.kind {
            Kind::Path => path,
            Kind::Use(_) => format!("use {path}"),
            Kind::Glob => format!("use {path}::*"),
        }
    }
}

impl Source {
    pub(crate) fn read(text: &str) -> Self {
        let tokens = tokens(text);
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
        let is_word = |at: usize| tokens.get(at).is_some_and(Token::is_word);

        let mut source = Self::default();
        // The modules of this file around the token, and the number of braces around each one's content.
        let (mut scope, mut depths): (Vec<String>, Vec<usize>) = (Vec::new(), vec![0]);
        let (mut at, mut depth) = (0, 0);
        while at < tokens.len() {
            let in_module = depths.last() == Some(&depth);
            match text(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if depths.len() > 1 && depths.last() > Some(&depth) {
                        depths.pop();
                        scope.pop();
                    }
                }
                // `impl Trait + use<'a>` names lifetimes.
                "use" if text(at + 1) != "<" => {
                    let mut tree = UseTree { tokens: &tokens, scope: &scope, in_module, found: &mut source.references };
                    at = tree.read(at + 1, &[]);
                    continue;
                }
                "mod" if is_word(at + 1) && [";", "{"].contains(&text(at + 2)) => {
                    let (name, inline) = (text(at + 1).to_owned(), text(at + 2) == "{");
                    source.modules.push(Module { scope: scope.clone(), name: name.clone(), inline });
                    if inline {
                        depth += 1;
                        scope.push(name);
                        depths.push(depth);
                    }
                    at += 3;
                    continue;
                }
                "macro_rules" if in_module => source.items.push((scope.clone(), text(at + 2).to_owned())),
                "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union"
                    if in_module && is_word(at + 1) =>
                {
                    source.items.push((scope.clone(), text(at + 1).to_owned()));
                }
                _ if is_word(at) && text(at + 1) == "::" => {
                    let before = |back: usize| at.checked_sub(back).map_or("", text);
                    // Within a longer path, a variable of a macro, and `pub(in path)`.
                    let part = before(1) == "::"
                        || (before(1) == "$" && text(at) != "crate")
                        || (before(1) == "in" && before(2) == "(" && before(3) == "pub");
                    let (line, mut path) = (tokens[at].line, vec![text(at).to_owned()]);
                    while text(at + 1) == "::" && is_word(at + 2) {
                        path.push(text(at + 2).to_owned());
                        at += 2;
                    }
                    if !part && path.len() > 1 {
                        source.references.push(Reference { line, scope: scope.clone(), path, kind: Kind::Path });
                    }
                }
                _ => {}
            }
            at += 1;
        }
        source
    }
}

/// Reads what stands between `use` and `;`.
struct UseTree<'a> {
    tokens: &'a [Token<'a>],
    scope: &'a [String],
    in_module: bool,
    found: &'a mut Vec<Reference>,
}

impl UseTree<'_> {
    /// Reads one branch, whose beginning is `prefix`, and returns where what follows it is.
    fn read(&mut self, mut at: usize, prefix: &[String]) -> usize {
        let mut path = prefix.to_vec();
        while let Some(token) = self.tokens.get(at) {
            let next = self.tokens.get(at + 1).map_or("", |token| token.text);
            match token.text {
                "{" => {
                    at += 1;
                    while at < self.tokens.len() && self.tokens[at].text != "}" {
                        at = self.read(at, &path);
                        if self.tokens.get(at).is_some_and(|token| token.text == ",") {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                "*" => {
                    self.push(token.line, path, Kind::Glob);
                    return at + 1;
                }
                // A path that begins with `::` leads out of the crate.
                "::" => {
                    path.push(String::new());
                    at += 1;
                }
                word => {
                    path.push(word.to_owned());
                    if next == "::" {
                        at += 2;
                        continue;
                    }
                    if word == "self" && path.len() > 1 {
                        path.pop();
                    }
                    let alias = self.tokens.get(at + 2).filter(|_| next == "as").map(|token| token.text.to_owned());
                    let end = at + if alias.is_some() { 3 } else { 1 };
                    let name = alias.or_else(|| path.last().cloned());
                    self.push(token.line, path, Kind::Use(name.filter(|name| name != "_" && self.in_module)));
                    return end;
                }
            }
        }
        at
    }

    fn push(&mut self, line: usize, path: Vec<String>, kind: Kind) {
        self.found.push(Reference { line, scope: self.scope.to_vec(), path, kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reference as `line: text`, with the name that a `use` binds.
    fn references(text: &str) -> Vec<String> {
        let found = Source::read(text).references;
        let show = |found: &Reference| match &found.kind {
            Kind::Use(Some(name)) => format!("{}: {} = {name}", found.line, found.text()),
            _ => format!("{}: {}", found.line, found.text()),
        };
        found.iter().map(show).collect()
    }

    #[test]
    fn use_with_groups_names_and_lines_is_read() {
        let text = "use std::io;\npub(crate) use crate::{a::{self, b as c}, d::*,\n    e};\nuse super::r#type as _;\n";
        let expected = [
            "1: use std::io = io",
            "2: use crate::a = a",
            "2: use crate::a::b = c",
            "2: use crate::d::*",
            "3: use crate::e = e",
            "4: use super::type",
        ];
        assert_eq!(references(text), expected);
    }

    #[test]
    fn use_within_a_function_binds_no_name_of_the_module() {
        assert_eq!(references("fn f() { use crate::a::b; }"), ["1: use crate::a::b"]);
        assert_eq!(references("fn f() -> impl Sized + use<'_> {}"), Vec::<String>::new());
    }

    #[test]
    fn paths_in_code_are_read() {
        let text = "fn f(a: crate::b::C) -> Vec<super::d::E> {\n    <u8 as std::str::FromStr>::from_str; g::h()\n}";
        assert_eq!(references(text), ["1: crate::b::C", "1: super::d::E", "2: std::str::FromStr", "2: g::h"]);
        assert_eq!(references("pub(in crate::a) fn f() { ::std::mem::take }"), Vec::<String>::new());
        assert_eq!(references("macro_rules! m { ($x:ident) => { $crate::a::b($x::c) } }"), ["1: crate::a::b"]);
    }

    #[test]
    fn comments_strings_and_characters_hold_no_paths() {
        for text in [
            "// use crate::a::b;",
            "/// [`crate::a::b`]",
            "/* /* use crate::a::b; */ use crate::a::b; */",
            r#"const A: &str = "\" use crate::a::b; ";"#,
            r##"const A: &str = r#"" use crate::a::b; "#;"##,
            "const A: &[u8] = br\" use crate::a::b; \\\";",
        ] {
            assert_eq!(references(text), Vec::<String>::new(), "{text}");
        }
        let text = "fn f<'a>() { let b = ['\"', '\\'', 'x', '\\u{1F}', b'\"']; crate::a::c() }";
        assert_eq!(references(text), ["1: crate::a::c"]);
    }

    #[test]
    fn items_for_tests_hold_no_paths() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::a::b;\n    mod c { }\n}\nuse crate::d::e;\n\
                    #[cfg(test)] use crate::a::f;\n#[cfg(all(test, unix))] #[g] fn h() -> [u8; 1] { crate::a::i() }\n\
                    #[cfg(test)]\nmod j;\nstruct K { #[cfg(test)] pub l: crate::a::M, n: crate::o::P }";
        assert_eq!(references(text), ["6: use crate::d::e = e", "11: crate::o::P"]);
        assert!(Source::read(text).modules.is_empty());
    }

    #[test]
    fn modules_and_items_are_read_with_the_modules_around_them() {
        let source = Source::read("mod a;\npub mod b { mod c; struct D { e: u8 } }\nconst fn f() { const G: u8 = 1; }");
        let modules: Vec<_> = source.modules.iter().map(|module| (module.scope.join("::"), &*module.name)).collect();
        assert_eq!(modules, [(String::new(), "a"), (String::new(), "b"), ("b".to_owned(), "c")]);
        let items: Vec<_> = source.items.iter().map(|(scope, name)| (scope.join("::"), &**name)).collect();
        assert_eq!(items, [("b".to_owned(), "D"), (String::new(), "fn"), (String::new(), "f")]);
    }
}
