//! Events: messages that a contract declares as such, with the option `mesh.options.v1.event`.
//!
//! Each gets an `impl mesh_proto::Event`, with its key. The events of a package become an enum `Event`, with a variant
//! `Unknown` for the events of a later version of the contract.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};
use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// The option that declares an event.
const OPTION: &str = "mesh.options.v1.event";

/// An event: its message, and the fields of its key.
struct Event {
    message: MessageDescriptor,
    key: Vec<FieldDescriptor>,
}

/// The code for the events of each package.
///
/// # Errors
///
/// One line that names file, message and key, if the key is no string field or the code would not compile.
pub(super) fn of(contracts: &DescriptorPool) -> Result<BTreeMap<String, String>, String> {
    let mut packages = BTreeMap::<_, Vec<_>>::new();
    for message in contracts.all_messages() {
        let Some(key) = declared_key(contracts, &message) else { continue };
        let file = message.parent_file();
        let wrong = |problem: String| format!("{}: the event {}: {problem}", file.name(), message.full_name());
        let key = check_names(&message).and_then(|()| find_key(&message, &key)).map_err(wrong)?;
        packages.entry(message.package_name().to_owned()).or_default().push(Event { message, key });
    }
    Ok(packages.into_iter().map(|(package, events)| (package.clone(), code(&package, &events))).collect())
}

/// The key of an event, as its contract spells it; `None` for any other message.
fn declared_key(contracts: &DescriptorPool, message: &MessageDescriptor) -> Option<String> {
    let option = contracts.get_extension_by_name(OPTION)?;
    let options = message.options();
    options.has_extension(&option).then(|| {
        let event = options.get_extension(&option);
        let key = event.as_message().and_then(|event| event.get_field_by_name("key"));
        key.and_then(|key| key.as_str().map(str::to_owned)).unwrap_or_default()
    })
}

fn check_names(message: &MessageDescriptor) -> Result<(), String> {
    if message.parent_message().is_some() {
        return Err("is inside of another message: move it out".to_owned());
    }
    if message.name() == "Unknown" {
        return Err("is the name of an event without a type in these contracts: choose another".to_owned());
    }
    let file = message.parent_file();
    let types = file.parent_pool();
    let taken = format!("{}.Event", message.package_name());
    if types.get_message_by_name(&taken).is_some() || types.get_enum_by_name(&taken).is_some() {
        return Err(format!("{taken} is the name of all events of the package: choose another for that type"));
    }
    Ok(())
}

/// The fields of a key: messages, and a string at the end.
fn find_key(message: &MessageDescriptor, key: &str) -> Result<Vec<FieldDescriptor>, String> {
    let no_string = |problem: String| format!("its key `{key}` is no string field: {problem}");
    let mut fields = Vec::new();
    let (mut within, mut names) = (message.clone(), key.split('.').peekable());
    while let Some(name) = names.next() {
        let field = within.get_field_by_name(name);
        let field = field.ok_or_else(|| no_string(format!("{} has no field `{name}`", within.full_name())))?;
        let wrong = |is: &str| no_string(format!("`{name}` {is}"));
        if field.cardinality() != Cardinality::Optional {
            return Err(wrong("is repeated or required"));
        }
        if field.containing_oneof().is_some() {
            return Err(wrong("is optional or in a oneof"));
        }
        let kind = field.kind();
        fields.push(field);
        match (kind, names.peek()) {
            (Kind::Message(inner), Some(_)) => within = inner,
            (Kind::String, None) => return Ok(fields),
            (Kind::Message(_), None) => return Err(wrong("is a message")),
            (_, Some(_)) => return Err(wrong("is no message")),
            (_, None) => return Err(wrong("is no string")),
        }
    }
    Err(no_string("it is empty".to_owned()))
}

/// The code for the events of one package, in the words of prost: its file has them beside the messages.
fn code(package: &str, events: &[Event]) -> String {
    let mut code = String::new();
    for event in events {
        let (name, key) = (event.rust_name(), event.key_code());
        let _ = write!(
            code,
            "
impl ::mesh_proto::Event for {name} {{
    fn key(&self) -> &str {{
        {key}
    }}
}}

impl From<{name}> for Event {{
    fn from(event: {name}) -> Self {{
        Self::{name}(event)
    }}
}}
"
        );
    }
    let each = |line: &dyn Fn(&str, &str) -> String| {
        let lines = events.iter().map(|event| line(&event.rust_name(), event.message.full_name()));
        lines.collect::<String>()
    };
    let variants = each(&|name, _| format!("    {name}({name}),\n"));
    let types = each(&|_, full_name| format!("\"{full_name}\", "));
    let decoded = each(&|name, full_name| {
        format!(
            "            Some(\"{full_name}\") => \
             <{name} as ::prost::Message>::decode(event.value.as_slice()).map(Self::{name}),\n"
        )
    });
    let keys = each(&|name, _| format!("            Self::{name}(event) => ::mesh_proto::Event::key(event),\n"));
    let packed = each(&|name, _| format!("            Self::{name}(event) => ::mesh_proto::pack(event),\n"));
    let _ = write!(
        code,
        "
/// The events of `{package}`.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {{
{variants}    /// An event of a type that these contracts do not have.
    Unknown(::prost_types::Any),
}}

impl ::mesh_proto::Events for Event {{
    const TYPES: &'static [&'static str] = &[{types}];

    fn decode(event: ::prost_types::Any) -> ::core::result::Result<Self, ::prost::DecodeError> {{
        match event.type_url.rsplit('/').next() {{
{decoded}            _ => Ok(Self::Unknown(event)),
        }}
    }}

    fn key(&self) -> &str {{
        match self {{
{keys}            Self::Unknown(_) => \"\",
        }}
    }}

    fn pack(self) -> ::prost_types::Any {{
        match &self {{
{packed}            Self::Unknown(event) => event.clone(),
        }}
    }}
}}
"
    );
    code
}

impl Event {
    fn rust_name(&self) -> String {
        self.message.name().to_upper_camel_case()
    }

    /// An expression for the key of the event `self`. prost makes an `Option` of a message, and a raw identifier of a
    /// keyword.
    fn key_code(&self) -> String {
        let names: Vec<_> = self.key.iter().map(|field| field.name().to_snake_case()).collect();
        let Some((last, messages)) = names.split_last() else { return "\"\"".to_owned() };
        let Some((first, messages)) = messages.split_first() else { return format!("&self.r#{last}") };
        let mut code = format!("self.r#{first}.as_ref()");
        for name in messages {
            let _ = write!(code, ".and_then(|it| it.r#{name}.as_ref())");
        }
        format!("{code}.map_or(\"\", |it| it.r#{last}.as_str())")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code for a contract with this body, or the problem with it.
    fn code_of(body: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let contract = format!(
            "syntax = \"proto3\"; package films.v1; import \"mesh/options/v1/options.proto\";
            message Film {{ string film_id = 1; repeated string names = 2; Film type = 3; }}
            {body}"
        );
        std::fs::write(folder.path().join("films.proto"), contract).unwrap();
        let proto = std::path::Path::new("../../proto");
        let mut compiler = protox::Compiler::new([folder.path(), proto]).unwrap();
        compiler.include_imports(true).open_file("films.proto").unwrap();
        of(&compiler.descriptor_pool()).map(|mut code| code.remove("films.v1").unwrap_or_default())
    }

    fn event(key: &str) -> String {
        let option = format!("option (mesh.options.v1.event) = {{key: \"{key}\"}};");
        format!("message FilmAdded {{ {option} Film film = 1; string by = 2; oneof of {{ string one = 3; }} }}")
    }

    #[test]
    fn event_has_its_key_and_a_variant_and_other_messages_have_none() {
        let code = code_of(&event("film.film_id")).unwrap();
        for part in [
            "impl ::mesh_proto::Event for FilmAdded {",
            "self.r#film.as_ref().map_or(\"\", |it| it.r#film_id.as_str())",
            "    FilmAdded(FilmAdded),\n    /// An event of a type",
            "&[\"films.v1.FilmAdded\", ]",
            "Some(\"films.v1.FilmAdded\") =>",
        ] {
            assert!(code.contains(part), "{part} is not in {code}");
        }
        assert!(!code.contains("for Film {"), "{code}");
        assert_eq!(code_of("").unwrap(), "");
    }

    #[test]
    fn event_key_leads_through_messages_and_keywords() {
        assert!(code_of(&event("by")).unwrap().contains(" &self.r#by\n"));
        let deep = code_of(&event("film.type.film_id")).unwrap();
        assert!(deep.contains("self.r#film.as_ref().and_then(|it| it.r#type.as_ref()).map_or("), "{deep}");
    }

    #[test]
    fn event_key_that_is_no_string_field_fails_with_one_line() {
        let cases = [
            ("film.title_id", "films.v1.Film has no field `title_id`"),
            ("film", "`film` is a message"),
            ("film.names", "`names` is repeated or required"),
            ("by.film_id", "`by` is no message"),
            ("one", "`one` is optional or in a oneof"),
            ("", "films.v1.FilmAdded has no field ``"),
        ];
        for (key, problem) in cases {
            let told = code_of(&event(key)).unwrap_err();
            let expected =
                format!("films.proto: the event films.v1.FilmAdded: its key `{key}` is no string field: {problem}");
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn event_whose_name_is_taken_fails() {
        let taken = format!("{} message Event {{}}", event("by"));
        assert!(code_of(&taken).unwrap_err().contains("films.v1.Event is the name of all events"));
        let unknown = event("by").replace("FilmAdded", "Unknown");
        assert!(code_of(&unknown).unwrap_err().contains("choose another"));
        let inside = format!("message Outer {{ {} }}", event("by"));
        assert!(code_of(&inside).unwrap_err().contains("inside of another message"));
    }
}
