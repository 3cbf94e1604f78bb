//! Paths of a FieldMask: `title_id` on the wire, `titleId` in JSON, with commas between them.

/// Appends a path as JSON has it, without quotes. `false` if reading it would not return the same path.
pub(crate) fn write_path(out: &mut String, path: &str) -> bool {
    let mut after_underscore = false;
    for letter in path.chars() {
        match letter {
            '_' if !after_underscore => after_underscore = true,
            'a'..='z' if after_underscore => {
                out.push(letter.to_ascii_uppercase());
                after_underscore = false;
            }
            'A'..='Z' | ',' => return false,
            _ if after_underscore => return false,
            _ => out.push(letter),
        }
    }
    !path.is_empty() && !after_underscore
}

/// Calls `each` with every path of the text of JSON. `false` if a path is not lowerCamelCase.
pub(crate) fn read_paths(text: &str, mut each: impl FnMut(&str)) -> bool {
    if text.is_empty() {
        return true;
    }
    let mut snake = String::with_capacity(text.len() + 8);
    text.split(',').all(|path| {
        snake.clear();
        for letter in path.chars() {
            match letter {
                '_' => return false,
                'A'..='Z' => snake.extend(['_', letter.to_ascii_lowercase()]),
                _ => snake.push(letter),
            }
        }
        each(&snake);
        !path.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_camel_case_in_json() {
        let write = |path| {
            let mut out = String::new();
            write_path(&mut out, path).then_some(out)
        };
        assert_eq!(write("title.create_time").as_deref(), Some("title.createTime"));
        assert_eq!(write("*").as_deref(), Some("*"));
        for bad in ["", "_", "a__b", "a_", "a_1", "aB", "a,b", "a_.b"] {
            assert_eq!(write(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn paths_are_read_back() {
        let read = |text| {
            let mut paths = Vec::new();
            read_paths(text, |path| paths.push(path.to_owned())).then_some(paths)
        };
        assert_eq!(read("title.createTime,name"), Some(vec!["title.create_time".to_owned(), "name".to_owned()]));
        assert_eq!(read(""), Some(vec![]));
        for bad in ["a,,b", ",", "a_b", "a,"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
