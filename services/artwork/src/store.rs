//! The SQL of artwork.

use std::collections::HashMap;

use mesh::store::{Connection, Error, in_list};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::domain::{Artwork, Rendition, Size};

/// Adds a picture to a running rendering.
pub(crate) async fn insert(
    database: impl AnyExecutor<'_>,
    rendering: &str,
    title: Uuid,
    rendition: &Rendition,
) -> Result<(), Error> {
    let insert = "INSERT INTO renditions (rendering, title_id, size, width, height, content)
        VALUES ($1, $2, $3, $4, $5, $6)";
    let insert = sqlx::query(insert).bind(rendering).bind(title.to_string()).bind(rendition.size as i64);
    let insert = insert.bind(i64::from(rendition.width)).bind(i64::from(rendition.height));
    insert.bind(rendition.content.as_slice()).execute(database).await?;
    Ok(())
}

/// Makes a finished rendering the artwork of its title, unless one that started later already is: operations have ids
/// in the order of their starts. Deletes the pictures of all earlier renderings.
pub(crate) async fn publish(database: &mut Connection, rendering: &str, title: Uuid, now: i64) -> Result<(), Error> {
    let publish = "INSERT INTO artworks (title_id, rendering, create_time) VALUES ($1, $2, $3)
        ON CONFLICT (title_id) DO UPDATE SET rendering = excluded.rendering, create_time = excluded.create_time
        WHERE artworks.rendering < excluded.rendering";
    sqlx::query(publish).bind(title.to_string()).bind(rendering).bind(now).execute(&mut *database).await?;
    // Later renderings stay: they may still run.
    let forget = "DELETE FROM renditions WHERE title_id = $1
        AND rendering < (SELECT rendering FROM artworks WHERE title_id = $1)";
    sqlx::query(forget).bind(title.to_string()).execute(database).await?;
    Ok(())
}

/// Deletes the pictures of a rendering that ended without success, unless it was published before its end.
pub(crate) async fn forget(database: impl AnyExecutor<'_>, rendering: &str) -> Result<(), Error> {
    let forget = "DELETE FROM renditions WHERE rendering = $1
        AND NOT EXISTS (SELECT 1 FROM artworks WHERE artworks.rendering = $1)";
    sqlx::query(forget).bind(rendering).execute(database).await?;
    Ok(())
}

/// The artwork of these titles, in this order, each once. Leaves out titles whose first rendering is not published yet.
pub(crate) async fn artworks(database: impl AnyExecutor<'_>, titles: &[Uuid]) -> Result<Vec<Artwork>, Error> {
    let (list, values) = in_list(titles);
    let describe = format!(
        "SELECT a.title_id, a.create_time, r.size, r.width, r.height FROM artworks a
        JOIN renditions r ON r.rendering = a.rendering WHERE a.title_id IN ({list}) ORDER BY r.size"
    );
    let describe = values.iter().fold(sqlx::query(AssertSqlSafe(describe)), |describe, title| describe.bind(title));
    let describe = describe.try_map(|row: AnyRow| {
        let title: String = row.try_get("title_id")?;
        let title: Uuid = title.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok((title, row.try_get("create_time")?, read(&row, Vec::new())?))
    });
    let mut found = HashMap::new();
    for (title, create_time, rendition) in describe.fetch_all(database).await? {
        let artwork = found.entry(title).or_insert_with(|| Artwork { title, renditions: Vec::new(), create_time });
        artwork.renditions.push(rendition);
    }
    Ok(titles.iter().filter_map(|title| found.remove(title)).collect())
}

/// The artwork of one title, as [`artworks`] gives it.
pub(crate) async fn artwork(database: impl AnyExecutor<'_>, title: Uuid) -> Result<Option<Artwork>, Error> {
    Ok(artworks(database, &[title]).await?.pop())
}

/// One picture of a title, with its content.
pub(crate) async fn get(database: impl AnyExecutor<'_>, title: Uuid, size: Size) -> Result<Option<Rendition>, Error> {
    let get = "SELECT r.size, r.width, r.height, r.content FROM renditions r
        JOIN artworks a ON a.rendering = r.rendering WHERE a.title_id = $1 AND r.size = $2";
    let get = sqlx::query(get).bind(title.to_string()).bind(size as i64);
    Ok(get.try_map(|row| read(&row, row.try_get("content")?)).fetch_optional(database).await?)
}

fn read(row: &AnyRow, content: Vec<u8>) -> sqlx::Result<Rendition> {
    let size: i64 = row.try_get("size")?;
    let size = Size::ALL.into_iter().find(|known| *known as i64 == size);
    let pixels = |column: &str| {
        let pixels: i64 = row.try_get(column)?;
        u32::try_from(pixels).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    };
    Ok(Rendition {
        size: size.ok_or_else(|| sqlx::Error::Decode("an unknown size".into()))?,
        width: pixels("width")?,
        height: pixels("height")?,
        content,
    })
}
