//! Path templates of `google.api.http`, such as `/v1/{name=services/*/operations/*}:cancel`.
//!
//! Guarantees:
//! - A template that is accepted follows the grammar of `google/api/http.proto`.
//! - Does not: know the fields that the variables name.
//!
//! See <https://google.aip.dev/127> and `google/api/http.proto`.

use std::fmt;

/// A parsed path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// The segments, those of variables included.
    pub(crate) segments: Vec<Segment>,
    /// The variables, from left to right.
    pub(crate) variables: Vec<Variable>,
    /// The verb at the end, without its colon.
    pub(crate) verb: Option<String>,
}

/// What a segment of a path must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    /// This text.
    Literal(String),
    /// `*`: one segment that is not empty.
    One,
    /// `**`: all that is left, which may be nothing.
    Rest,
}

/// A variable of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The path of the field that takes the value, such as `title.title_id`.
    pub(crate) field: String,
    /// The index of its first segment.
    pub(crate) start: usize,
    /// The index behind its last segment.
    pub(crate) end: usize,
    /// Whether the value spans several segments: a `%2F` in it is not decoded.
    pub(crate) multi: bool,
}

/// Why a text is no path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// The byte at which the mistake was found.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) what: &'static str,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// The first place that breaks the grammar.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { text, at: 0, template: Self { segments: vec![], variables: vec![], verb: None } };
        parser.expect(b'/', "a template starts with `/`")?;
        parser.segments(false)?;
        if parser.take(b':') {
            let verb = parser.literal("a verb is a literal")?;
            parser.template.verb = Some(verb.to_owned());
        }
        match parser.peek() {
            None => Ok(parser.template),
            Some(b':') => Err(parser.error("a template has one verb")),
            Some(b'/') => Err(parser.error("a verb is the end of a template")),
            Some(_) => Err(parser.error("`/`, `:` or the end of the template must follow a segment")),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    template: Template,
}

impl<'a> Parser<'a> {
    /// Segments up to a verb, the end, or, within a variable, its brace.
    fn segments(&mut self, in_variable: bool) -> Result<(), TemplateError> {
        loop {
            if self.template.segments.last() == Some(&Segment::Rest) {
                return Err(self.error("`**` is the last segment of a template"));
            }
            match self.peek() {
                Some(b'{') if in_variable => return Err(self.error("a variable contains no variable")),
                Some(b'{') => self.variable()?,
                _ => self.segment()?,
            }
            if !self.take(b'/') {
                return Ok(());
            }
        }
    }

    fn segment(&mut self) -> Result<(), TemplateError> {
        let segment = if self.take(b'*') {
            if self.take(b'*') { Segment::Rest } else { Segment::One }
        } else {
            Segment::Literal(self.literal("a segment is `*`, `**`, a literal or a variable")?.to_owned())
        };
        self.template.segments.push(segment);
        Ok(())
    }

    fn variable(&mut self) -> Result<(), TemplateError> {
        let opened = self.at;
        self.at += 1;
        let field = self.field_path()?.to_owned();
        if self.template.variables.iter().any(|other| other.field == field) {
            return Err(TemplateError { at: opened, what: "a variable stands once in a template" });
        }
        let start = self.template.segments.len();
        let multi = if self.take(b'=') {
            self.segments(true)?;
            self.template.segments[start..] != [Segment::One]
        } else {
            self.template.segments.push(Segment::One);
            false
        };
        self.expect(b'}', "a variable ends with `}`")?;
        let end = self.template.segments.len();
        self.template.variables.push(Variable { field, start, end, multi });
        Ok(())
    }

    fn field_path(&mut self) -> Result<&'a str, TemplateError> {
        let start = self.at;
        loop {
            let first = self.peek().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            if !first {
                return Err(self.error("a variable names a field: letters, digits and `_`, with `.` between names"));
            }
            self.skip(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !self.take(b'.') {
                return Ok(&self.text[start..self.at]);
            }
        }
    }

    /// A text that a path contains as it stands: no character of it needs percent-encoding.
    fn literal(&mut self, otherwise: &'static str) -> Result<&'a str, TemplateError> {
        let start = self.at;
        self.skip(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;@".contains(&byte));
        match &self.text[start..self.at] {
            "" => Err(self.error(otherwise)),
            "." | ".." => Err(TemplateError { at: start, what: "no segment is `.` or `..`" }),
            literal => Ok(literal),
        }
    }

    fn skip(&mut self, of: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&of) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), TemplateError> {
        if self.take(byte) { Ok(()) } else { Err(self.error(otherwise)) }
    }

    fn error(&self, what: &'static str) -> TemplateError {
        TemplateError { at: self.at, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[track_caller]
    fn parse(text: &str) -> Template {
        Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The variables as `field start..end`, with a `+` behind one that spans several segments.
    fn variables(template: &Template) -> Vec<String> {
        let show = |v: &Variable| format!("{} {}..{}{}", v.field, v.start, v.end, if v.multi { "+" } else { "" });
        template.variables.iter().map(show).collect()
    }

    #[test]
    fn template_has_literals_wildcards_and_a_verb() {
        let template = parse("/shelves/*/books/**:read");
        assert_eq!(template.segments, [literal("shelves"), Segment::One, literal("books"), Segment::Rest]);
        assert_eq!(template.verb.as_deref(), Some("read"));
        assert!(template.variables.is_empty());
        assert_eq!(parse("/**").segments, [Segment::Rest]);
        assert_eq!(parse("/v1:verb").verb.as_deref(), Some("verb"));
        assert_eq!(parse("/v1.2/a-b_c~d@e").segments, [literal("v1.2"), literal("a-b_c~d@e")]);
    }

    #[test]
    fn template_variable_covers_its_segments() {
        assert_eq!(variables(&parse("/v1/{id}")), ["id 1..2"]);
        assert_eq!(variables(&parse("/v1/{id=*}")), ["id 1..2"]);
        assert_eq!(variables(&parse("/v1/{a.b.c}/x/{d=**}")), ["a.b.c 1..2", "d 3..4+"]);
        assert_eq!(variables(&parse("/v1/{name=services/*/operations/*}:cancel")), ["name 1..5+"]);
        assert_eq!(variables(&parse("/{fixed=one}")), ["fixed 0..1+"]);
        assert_eq!(variables(&parse("/{a}/{b=x/**}:v")), ["a 0..1", "b 1..3+"]);
        assert_eq!(parse("/{a}:v").verb.as_deref(), Some("v"));
        assert_eq!(parse("/{b=x/**}").segments, [literal("x"), Segment::Rest]);
    }

    #[test]
    fn template_that_breaks_the_grammar_is_refused_at_its_place() {
        for (text, at) in [
            ("", 0),
            ("v1/titles", 0),
            ("/", 1),
            ("//", 1),
            ("/a/", 3),
            ("/a//b", 3),
            ("/**/a", 4),
            ("/{x=**}/a", 8),
            ("/{x=**/a}", 7),
            ("/***", 3),
            ("/*a", 2),
            ("/a*", 2),
            ("/{", 2),
            ("/{}", 2),
            ("/{a", 3),
            ("/{a.}", 4),
            ("/{.a}", 2),
            ("/{1a}", 2),
            ("/{a-b}", 3),
            ("/{a=}", 4),
            ("/{a={b}}", 4),
            ("/{a=b/{c}}", 6),
            ("/{a}b", 4),
            ("/{a}{b}", 4),
            ("/{a}/{a}", 5),
            ("/{a=x:y}", 5),
            ("/a}", 2),
            ("/a:", 3),
            ("/:a", 1),
            ("/a:b:c", 4),
            ("/a:b/c", 4),
            ("/a:*", 3),
            ("/a b", 2),
            ("/a%20b", 2),
            ("/a?b=c", 2),
            ("/a/../b", 3),
            ("/ä", 1),
        ] {
            let error = Template::parse(text).expect_err(text);
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }

    #[test]
    fn template_parser_survives_mutated_templates() {
        let mut random = fastrand::Rng::with_seed(1);
        let parts = ["/", "{", "}", "=", "*", "**", ":", ".", "a", "name", "v1", "%", "ä", "{a=b/*}", "/{x}"];
        for _ in 0..200_000 {
            let count = random.usize(0..12);
            let text: String = (0..count).map(|_| parts[random.usize(..parts.len())]).collect();
            if let Ok(template) = Template::parse(&text) {
                assert!(
                    template.variables.iter().all(|v| v.start < v.end && v.end <= template.segments.len()),
                    "{text}"
                );
            }
        }
    }
}
