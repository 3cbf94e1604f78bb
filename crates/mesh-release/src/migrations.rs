//! Reads migrations: whether the programs before one can go on behind it, as far as its statements say, and whether a
//! build has those of another one.
//!
//! Additive are new tables, indexes that are not unique, and columns that are nullable or have a default. So is
//! everything on a table that the same migrations create, though not with IF NOT EXISTS, as it may be there. All else
//! is taken for a break, which a migration declares with `breaks_before`.
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
        ["CREATE", "TABLE", "IF", "NOT", "EXISTS", ..] => restricts(words, &name(5), created),
        ["CREATE", "TABLE", ..] => {
            let table = name(2);
            created.insert(table.clone());
            restricts(words, &table, created)
        }
        ["CREATE", rest @ ..] if rest.starts_with(&["INDEX"]) || rest.starts_with(&["UNIQUE", "INDEX"]) => {
            let on = rest.iter().position(|word| *word == "ON").map(|at| name(at + 2)).unwrap_or_default();
            let is_unique = rest[0] == "UNIQUE" && !is_new(&on, created);
            is_unique.then(|| format!("a UNIQUE index on {on} refuses rows that earlier programs write"))
        }
        ["ALTER", "TABLE", rest @ ..] => {
            let skipped = rest.iter().take_while(|word| ["IF", "EXISTS", "ONLY"].contains(word)).count();
            let table = name(2 + skipped);
            if is_new(&table, created) {
                return restricts(words, &table, created);
            }
            let actions = rest.get(skipped + 1..).unwrap_or_default();
            let alters = actions_of(actions).into_iter().find_map(|action| alters(action, &table));
            alters.or_else(|| restricts(words, &table, created))
        }
        ["INSERT", "INTO", ..] if is_new(&name(2), created) => None,
        ["UPDATE", ..] if is_new(&name(1), created) => None,
        ["DELETE", "FROM", ..] if is_new(&name(2), created) => None,
        _ => Some(format!("`{}` is no addition", shown())),
    }
}

/// Why a table that refers to others breaks earlier programs: they cannot delete rows to which it refers.
fn restricts(words: &[String], table: &str, created: &BTreeSet<String>) -> Option<String> {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|it| it.eq_ignore_ascii_case(word));
    let lets_go = |at: usize| {
        // Up to the end of the column or the constraint.
        let (mut depth, mut at) = (0_i32, at);
        while at < words.len() && depth >= 0 && !(depth == 0 && is(at, ",")) {
            if is(at, "ON") && is(at + 1, "DELETE") {
                return is(at + 2, "CASCADE") || is(at + 2, "SET");
            }
            depth += i32::from(is(at, "(")) - i32::from(is(at, ")"));
            at += 1;
        }
        false
    };
    let refers = (0..words.len()).filter(|at| is(*at, "REFERENCES")).find_map(|at| {
        let other = plain(words.get(at + 1)?);
        (other != table && !created.contains(&other) && !lets_go(at + 2)).then_some(other)
    });
    refers.map(|other| format!("{table} refers to {other}, of which earlier programs can delete no row then"))
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
    let default = action.iter().position(|word| *word == "DEFAULT").map(|at| &action[at + 1..]);
    let default = default.and_then(|words| words.iter().find(|word| **word != "("));
    let has_default = default.is_some_and(|value| *value != "NULL" && !value.starts_with("NULL::"));
    if has(&["NOT", "NULL"]) && !has_default {
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

/// A name with its schema, without quotes that change nothing.
fn plain(name: &str) -> String {
    let part = |part: &str| {
        let bare = part.trim_matches(['"', '`', '[', ']']);
        let is_plain = bare.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        match part.len() - bare.len() {
            0 => part.to_ascii_lowercase(),
            2 if is_plain => bare.to_owned(),
            // With quotes, case counts, and a dot is part of the name.
            _ => part.to_owned(),
        }
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
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
            "CREATE TABLE a (id BIGINT); CREATE UNIQUE INDEX a_id ON a (id); INSERT INTO \"a\" VALUES (1);",
            "CREATE TABLE x.a (id BIGINT); DELETE FROM x.a; ALTER TABLE X.A DROP COLUMN id",
            "CREATE TABLE IF NOT EXISTS a (id BIGINT, above BIGINT REFERENCES a (id))",
            "CREATE TABLE a (id BIGINT); CREATE TABLE b (a BIGINT REFERENCES a (id))",
            "CREATE TABLE a (title TEXT, FOREIGN KEY (title) REFERENCES titles (id) ON DELETE CASCADE, note TEXT)",
            "ALTER TABLE titles ADD COLUMN rating BIGINT DEFAULT NULL",
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
            ("CREATE TABLE IF NOT EXISTS t (a TEXT); ALTER TABLE t DROP COLUMN b", "DROP COLUMN"),
            ("CREATE TABLE IF NOT EXISTS t (a TEXT); DELETE FROM t", "`DELETE FROM t`"),
            ("CREATE TABLE IF NOT EXISTS t (a TEXT); CREATE UNIQUE INDEX t_a ON t (a)", "UNIQUE index on t"),
            ("CREATE TABLE IF NOT EXISTS t (a TEXT); ALTER TABLE t ADD b TEXT NOT NULL", "NOT NULL without a DEFAULT"),
            ("CREATE TABLE audit.titles (a TEXT); DELETE FROM titles", "`DELETE FROM titles`"),
            ("CREATE TABLE \"Titles\" (a TEXT); DELETE FROM titles", "`DELETE FROM titles`"),
            ("CREATE TABLE \"a.b\" (a TEXT); DELETE FROM a.b", "`DELETE FROM a.b`"),
            ("ALTER TABLE titles ADD COLUMN rating BIGINT NOT NULL DEFAULT NULL", "NOT NULL without a DEFAULT"),
            ("ALTER TABLE titles ADD rating TEXT DEFAULT (NULL::text) NOT NULL", "NOT NULL without a DEFAULT"),
            (
                "CREATE TABLE a (title TEXT REFERENCES titles (id), b TEXT REFERENCES b ON DELETE CASCADE)",
                "a refers to titles",
            ),
            ("CREATE TABLE a (title TEXT REFERENCES titles (id) ON DELETE RESTRICT)", "can delete no row"),
            ("ALTER TABLE marks ADD title TEXT REFERENCES titles (id)", "marks refers to titles"),
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
