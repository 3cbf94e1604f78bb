//! Splits a Rust file into words, `::` and punctuation.
//!
//! Leaves out: comments, strings, characters, numbers, lifetimes, and every item under `#[cfg(test)]`.

#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

impl Token<'_> {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// The tokens of a file.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    without_tests(&every_token(text))
}

fn every_token(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (length, kept) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false)
        } else if let Some(length) = string(rest) {
            (length, false)
        } else if first == '\'' {
            (character_or_lifetime(rest), false)
        } else if first.is_alphanumeric() || first == '_' {
            (word(rest), !first.is_numeric())
        } else if rest.starts_with("::") {
            (2, true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };
        let (token, after) = rest.split_at(length);
        if kept {
            tokens.push(Token { text: token.trim_start_matches("r#"), line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

fn word(text: &str) -> usize {
    let raw = if text.starts_with("r#") { 2 } else { 0 };
    let end = text[raw..].find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    end.map_or(text.len(), |end| raw + end)
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        let (width, change) = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += width;
        depth += change;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string that `text` begins with, if it does: `"…"`, `b"…"`, `r#"…"#` and so on.
fn string(text: &str) -> Option<usize> {
    let quote = text.find('"')?;
    let prefix = &text[..quote];
    let hashes = prefix.trim_start_matches(['b', 'c', 'r']);
    if !["", "b", "c", "r", "br", "cr"].contains(&&prefix[..prefix.len() - hashes.len()])
        || hashes.contains(|sign| sign != '#')
    {
        return None;
    }
    let start = quote + 1;
    if prefix.contains('r') {
        let end = format!("\"{hashes}");
        return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
    }
    let mut escaped = false;
    for (at, letter) in text[start..].char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(start + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

fn character_or_lifetime(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match (letters.next(), letters.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let start = at + escaped.len_utf8();
            text[start..].find('\'').map_or(text.len(), |end| start + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1 + word(&text[1..]),
    }
}

/// Without the items that only tests compile.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    const ONLY_TESTS: [&[&str]; 2] =
        [&["#", "[", "cfg", "(", "test", ")", "]"], &["#", "[", "cfg", "(", "all", "(", "test", ","]];
    let mut left = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = |with: &[&str]| {
            tokens.len() - at >= with.len() && with.iter().zip(&tokens[at..]).all(|(text, token)| *text == token.text)
        };
        if ONLY_TESTS.into_iter().any(begins) {
            at = item_end(tokens, at);
        } else {
            left.push(tokens[at]);
            at += 1;
        }
    }
    left
}

/// Where the item ends whose attributes begin at `at`: past its `;`, its last brace, or the `,` of a field.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    while text(at) == "#" {
        at = group_end(tokens, at + 1);
    }
    if text(at) == "pub" {
        at = if text(at + 1) == "(" { group_end(tokens, at + 1) } else { at + 1 };
    }
    let field = text(at + 1) == ":";
    while at < tokens.len() {
        match text(at) {
            "{" => {
                at = group_end(tokens, at);
                if !field {
                    return at;
                }
            }
            "(" | "[" => at = group_end(tokens, at),
            "}" => return at,
            ";" => return at + 1,
            "," if field => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Past the bracket that closes the one at `at`.
fn group_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (past, token) in (at + 1..).zip(&tokens[at..]) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return past;
        }
    }
    tokens.len()
}
