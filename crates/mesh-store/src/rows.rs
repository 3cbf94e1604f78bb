//! Sends many rows in one statement.
//!
//! A statement costs a hop to another thread on SQLite and a round trip on Postgres. sqlx's `Any` binds no arrays, so
//! rows are sent as one JSON text, which the database turns into a table. Bytes are sent as hexadecimal digits, which
//! both databases read. Bind a large value by itself.

use sqlx::Row as _;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::dialect::Dialect;

/// A column of the sent rows.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// TEXT.
    Text(&'static str),
    /// BIGINT.
    Number(&'static str),
    /// BYTEA.
    Bytes(&'static str),
}

impl Dialect {
    /// The rows in the parameter `$1`, a JSON array of objects with these columns, as a table for a FROM clause.
    pub fn rows(self, columns: &[Column]) -> String {
        let selected: Vec<_> = columns.iter().map(|column| self.select(*column)).collect();
        let selected = selected.join(", ");
        match self {
            Self::Sqlite => format!("(SELECT {selected} FROM json_each($1))"),
            Self::Postgres => {
                let declared = columns.iter().map(|column| match column {
                    Column::Text(name) | Column::Bytes(name) => format!("{name} text"),
                    Column::Number(name) => format!("{name} bigint"),
                });
                let declared = declared.collect::<Vec<_>>().join(", ");
                format!("(SELECT {selected} FROM jsonb_to_recordset(CAST($1 AS jsonb)) AS sent ({declared}))")
            }
        }
    }

    fn select(self, column: Column) -> String {
        match (self, column) {
            (Self::Sqlite, Column::Text(name) | Column::Number(name)) => format!("value ->> '{name}' AS {name}"),
            (Self::Sqlite, Column::Bytes(name)) => format!("unhex(value ->> '{name}') AS {name}"),
            (Self::Postgres, Column::Text(name) | Column::Number(name)) => name.to_owned(),
            (Self::Postgres, Column::Bytes(name)) => format!("decode({name}, 'hex') AS {name}"),
        }
    }
}

/// Bytes as hexadecimal digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The UUID in the first column of a row.
///
/// # Errors
///
/// [`sqlx::Error::Decode`] if the column holds no UUID.
pub fn uuid(row: &AnyRow) -> sqlx::Result<Uuid> {
    row.try_get::<&str, _>(0)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_gives_two_digits_for_each_byte() {
        assert_eq!(hex(&[0, 1, 0xab, 255]), "0001abff");
    }
}
