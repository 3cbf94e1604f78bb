//! A list of ids in the condition of a statement: `WHERE id IN (…)`.
//!
//! sqlx's `Any` binds no arrays, so each id has a parameter. The number of parameters is a power of two, and the last
//! id fills the rest: lists of all lengths share few prepared statements.

use std::iter;

use uuid::Uuid;

/// The parameters of a list of ids, `$1, $2, …`, and the texts to bind to them. Use them for the only parameters of a
/// statement, and bound the length of the list: SQLite takes 32,766 parameters, Postgres 65,535.
///
/// ```
/// # use mesh_store::in_list;
/// # let ids = [uuid::Uuid::now_v7()];
/// let (list, ids) = in_list(&ids);
/// let get = format!("SELECT item_id, name FROM items WHERE item_id IN ({list})");
/// let get = ids.iter().fold(sqlx::query::<sqlx::Any>(sqlx::AssertSqlSafe(get)), |get, id| get.bind(id));
/// ```
pub fn in_list(ids: &[Uuid]) -> (String, Vec<String>) {
    // A list without elements is a mistake of syntax in Postgres. No value equals NULL.
    let Some(last) = ids.last() else { return ("NULL".to_owned(), Vec::new()) };
    let length = ids.len().next_power_of_two();
    let parameters: Vec<_> = (1..=length).map(|n| format!("${n}")).collect();
    let filled = ids.iter().chain(iter::repeat(last)).take(length);
    (parameters.join(", "), filled.map(Uuid::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_list_has_a_power_of_two_of_parameters() {
        let ids: Vec<_> = (0..5).map(Uuid::from_u128).collect();
        let (parameters, values) = in_list(&ids);
        assert_eq!(parameters, "$1, $2, $3, $4, $5, $6, $7, $8");
        let expected: Vec<_> = [0, 1, 2, 3, 4, 4, 4, 4].map(|n| Uuid::from_u128(n).to_string()).into();
        assert_eq!(values, expected);
        assert_eq!(in_list(&ids[..1]), ("$1".to_owned(), vec![Uuid::nil().to_string()]));
        assert_eq!(in_list(&[]), ("NULL".to_owned(), Vec::new()));
    }
}
