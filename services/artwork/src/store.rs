//! The SQL of artwork.

use mesh::store::{Connection, Error, Reader};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, Row as _};
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

/// Makes a finished rendering the artwork of its title, unless one that started later already is: operations have ids in
/// the order of their starts. Deletes the pictures of
/// all earlier renderings.
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

/// The artwork of a title; `None` until its first rendering is published.
pub(crate) async fn artwork(database: Reader<'_>, title: Uuid) -> Result<Option<Artwork>, Error> {
    let created = sqlx::query("SELECT create_time FROM artworks WHERE title_id = $1").bind(title.to_string());
    let created = created.try_map(|row: AnyRow| row.try_get(0)).fetch_optional(database).await?;
    let Some(create_time) = created else { return Ok(None) };
    let describe = "SELECT r.size, r.width, r.height FROM renditions r
        JOIN artworks a ON a.rendering = r.rendering WHERE a.title_id = $1 ORDER BY r.size";
    let describe = sqlx::query(describe).bind(title.to_string()).try_map(|row| read(&row, Vec::new()));
    let renditions = describe.fetch_all(database).await?;
    Ok(Some(Artwork { title, renditions, create_time }))
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
