//! Reads migrations: whether the programs before one can go on behind it, as far as its statements say, and whether a build
//! has those of another one.
//!
//! Additive are new tables, indexes that are not unique, and columns that are nullable or have a default. So is everything on
//! a table that the same migrations create. All else is taken for a break, which a migration declares with `breaks_before`.
//!
//! Does not: parse SQL. A statement that is not understood is a break, too.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::Build;

/// How a migration that a build has differs in another build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Its statements are other ones.
    Other,
    /// It is gone, and later ones of its list are there.
    Gone,
    /// It is gone, and so are all behind it: an older program, whose floor is that of the schema.
    Dropped,
}

/// The migrations of `before` that are not the same in `now`, each with its list and version.
pub fn edits(before: &Build, now: &Build) -> Vec<(String, i64, Edit)> {
    let all = |build: &Build| -> BTreeMap<(String, i64), String> {
        let lists = build.manifest.schema.iter().flat_map(|schema| schema.lists.clone());
        let all = lists
            .flat_map(|list| list.migrations.into_iter().map(move |one| ((list.name.clone(), one.version), one.sql)));
        all.collect()
    };
    let (known, newest) = (all(now), now.schema());
    let edits = all(before).into_iter().filter_map(|((list, version), sql)| {
        let key = (list, version);
        let edit = match known.get(&key) {
            Some(same) if *same == sql => return None,
            Some(_) => Edit::Other,
            None if newest.get(&*key.0).is_some_and(|(newest, _)| *newest > version) => Edit::Gone,
            None => Edit::Dropped,
        };
        Some((key.0, version, edit))
    });
    edits.collect()
}

/// Statements of migrations that programs before them may not survive, each as a reason.
///
/// `sql` are the texts of consecutive migrations.
pub fn breaks<'a>(sql: impl IntoIterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut created = BTreeSet::new();
    let read =
        sql.into_iter().map(|sql| statements(sql).iter().filter_map(|words| read(words, &mut created)).collect());
    read.collect()
}

/// Why a statement breaks earlier programs; `None` if it does not.
fn read(words: &[String], created: &mut BTreeSet<String>) -> Option<String> {
    let upper: Vec<_> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    let name = |at: usize| words.get(at).map(|name| plain(name)).unwrap_or_default();
    let is_new = |name: &str, created: &BTreeSet<String>| created.contains(name);
    let shown = || words.iter().take(6).cloned().collect::<Vec<_>>().join(" ");
    match &upper[..] {
        [] => None,
        ["CREATE", "TABLE", "IF", "NOT", "EXISTS", ..] => none(created.insert(name(5))),
        ["CREATE", "TABLE", ..] => none(created.insert(name(2))),
        ["CREATE", rest @ ..] if rest.starts_with(&["INDEX"]) || rest.starts_with(&["UNIQUE", "INDEX"]) => {
            let on = rest.iter().position(|word| *word == "ON").map(|at| name(at + 2)).unwrap_or_default();
            let is_unique = rest[0] == "UNIQUE" && !is_new(&on, created);
            is_unique.then(|| format!("a UNIQUE index on {on} refuses rows that earlier programs write"))
        }
        ["ALTER", "TABLE", rest @ ..] => {
            let skipped = rest.iter().take_while(|word| ["IF", "EXISTS", "ONLY"].contains(word)).count();
            let table = name(2 + skipped);
            if is_new(&table, created) {
                return None;
            }
            let actions = rest.get(skipped + 1..).unwrap_or_default();
            actions_of(actions).into_iter().find_map(|action| alters(action, &table))
        }
        ["INSERT", "INTO", ..] if is_new(&name(2), created) => None,
        ["UPDATE", ..] if is_new(&name(1), created) => None,
        ["DELETE", "FROM", ..] if is_new(&name(2), created) => None,
        _ => Some(format!("`{}` is no addition", shown())),
    }
}

fn none(_: bool) -> Option<String> {
    None
}

/// Why an action of ALTER TABLE breaks earlier programs.
fn alters(action: &[&str], table: &str) -> Option<String> {
    const CONSTRAINTS: [&str; 6] = ["CONSTRAINT", "UNIQUE", "PRIMARY", "FOREIGN", "CHECK", "EXCLUDE"];
    let adds = action.first() == Some(&"ADD") && action.get(1).is_some_and(|word| !CONSTRAINTS.contains(word));
    if !adds {
        return Some(format!(
            "ALTER TABLE {table} {} is no addition",
            action.iter().take(3).copied().collect::<Vec<_>>().join(" ")
        ));
    }
    let has = |words: &[&str]| action.windows(words.len()).any(|window| window == words);
    if has(&["NOT", "NULL"]) && !has(&["DEFAULT"]) {
        return Some(format!(
            "a column of {table} that is NOT NULL without a DEFAULT refuses rows of earlier programs"
        ));
    }
    let constraint = CONSTRAINTS.into_iter().find(|word| *word != "CONSTRAINT" && has(&[word]));
    constraint.map(|word| format!("a column of {table} with {word} may refuse rows of earlier programs"))
}

/// The actions of ALTER TABLE, between commas that are in no parentheses.
fn actions_of<'a, 'b>(words: &'b [&'a str]) -> Vec<&'b [&'a str]> {
    let mut depth = 0_usize;
    let actions = words.split(|word| {
        match *word {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        *word == "," && depth == 0
    });
    actions.collect()
}

/// A name without quotes and without its schema.
fn plain(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.trim_matches(['"', '`', '[', ']']).to_ascii_lowercase()
}

/// The words of each statement: without comments, with texts and quoted names as one word, and with `(`, `)` and `,` as
/// words.
fn statements(sql: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), String::new());
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            '\'' | '"' | '`' => quoted(rest, c),
            '$' => dollar(rest),
            _ => 0,
        };
        if end > 0 {
            let text = &rest[..end];
            if c == '-' || c == '/' {
                take(&mut words, &mut word);
            } else {
                word.push_str(text);
            }
            rest = &rest[end..];
            continue;
        }
        match c {
            ';' => {
                take(&mut words, &mut word);
                all.push(std::mem::take(&mut words));
            }
            '(' | ')' | ',' => {
                take(&mut words, &mut word);
                words.push(c.to_string());
            }
            c if c.is_whitespace() => take(&mut words, &mut word),
            c => word.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    take(&mut words, &mut word);
    all.push(words);
    all.retain(|words| !words.is_empty());
    all
}

fn take(words: &mut Vec<String>, word: &mut String) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

/// The length of a text in quotes, which are doubled inside.
fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |at| at + 2)
}

/// The length of a text in Postgres' dollar quotes, `$tag$ … $tag$`; 0 if there is none, as in `$1`.
fn dollar(text: &str) -> usize {
    let Some(tag) = text[1..].find('$').map(|at| &text[..at + 2]) else { return 0 };
    if !tag[1..tag.len() - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
        return 0;
    }
    text[tag.len()..].find(tag).map_or(text.len(), |at| at + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_one(sql: &str) -> Vec<String> {
        breaks([sql]).concat()
    }

    #[test]
    fn additions_are_no_breaks() {
        for sql in [
            "CREATE TABLE a (id BIGINT NOT NULL PRIMARY KEY, name TEXT UNIQUE); -- DROP TABLE b",
            "CREATE TABLE IF NOT EXISTS a (id BIGINT); CREATE UNIQUE INDEX a_id ON a (id); INSERT INTO a VALUES (1);",
            "CREATE INDEX titles_by_name ON titles (name)",
            "alter table titles add column rating bigint",
            "ALTER TABLE titles ADD COLUMN rating BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE titles ADD rating DECIMAL(3, 1), ADD note TEXT DEFAULT 'a; DROP TABLE b, c'",
            "/* DELETE FROM titles; */",
            "",
        ] {
            assert_eq!(of_one(sql), Vec::<String>::new(), "{sql}");
        }
    }

    #[test]
    fn all_else_is_a_break() {
        for (sql, words) in [
            ("DROP TABLE titles", "`DROP TABLE titles`"),
            ("ALTER TABLE titles DROP COLUMN synopsis", "ALTER TABLE titles DROP COLUMN SYNOPSIS"),
            ("ALTER TABLE titles RENAME COLUMN a TO b", "RENAME"),
            ("ALTER TABLE titles ADD COLUMN rating BIGINT NOT NULL", "NOT NULL without a DEFAULT"),
            ("ALTER TABLE titles ADD a TEXT, ADD COLUMN b TEXT UNIQUE", "UNIQUE"),
            ("ALTER TABLE titles ALTER COLUMN name SET NOT NULL", "ALTER COLUMN"),
            ("ALTER TABLE titles ADD CONSTRAINT one CHECK (year > 0)", "ADD CONSTRAINT"),
            ("CREATE UNIQUE INDEX titles_by_name ON titles (name)", "UNIQUE index on titles"),
            ("DELETE FROM titles", "`DELETE FROM titles`"),
            ("UPDATE titles SET name = ''", "`UPDATE titles"),
            ("INSERT INTO titles VALUES (1)", "`INSERT INTO titles"),
            ("CREATE TRIGGER t AFTER INSERT ON titles BEGIN SELECT 1; END", "`CREATE TRIGGER"),
            ("CREATE TRIGGER t AFTER INSERT ON titles BEGIN UPDATE titles SET index = 1; END", "`CREATE TRIGGER"),
            ("CREATE VIEW v AS SELECT index FROM titles", "`CREATE VIEW"),
            ("SELECT $$;$$; VACUUM", "`SELECT"),
        ] {
            let found = of_one(sql);
            assert!(found.first().is_some_and(|why| why.contains(words)), "{sql}: {found:?}");
        }
    }

    #[test]
    fn tables_of_earlier_migrations_are_new_as_well() {
        let found = breaks(["CREATE TABLE a (id BIGINT)", "DELETE FROM a; DELETE FROM b"]);
        assert_eq!(found, [vec![], vec!["`DELETE FROM b` is no addition".to_owned()]]);
    }

    #[test]
    fn any_text_is_read() {
        let mut random = fastrand::Rng::with_seed(7);
        let parts = [
            "'", "\"", "$", "$a$", ";", "--", "/*", "*/", "CREATE ", "TABLE ", "ALTER ", "ADD ", "(", ")", ",", "\n",
            "ä",
        ];
        for _ in 0..20_000 {
            let text: String = (0..random.usize(..20)).map(|_| *random.choice(&parts).unwrap()).collect();
            let _ = breaks([&*text]);
        }
    }
}
