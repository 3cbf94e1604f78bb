//! The same rows by one statement over both databases: what no service may do, and the least that a screen costs.

use sqlx::{AnyConnection, Connection as _};

use super::system::System;

const JOIN: &str = "SELECT t.title_id, t.name, t.synopsis, t.year, t.price_cents, r.width, r.height
    FROM titles t
    LEFT JOIN artwork.artworks a ON a.title_id = t.title_id
    LEFT JOIN artwork.renditions r ON r.rendering = a.rendering AND r.size = (SELECT max(size) FROM artwork.renditions)
    ORDER BY t.title_id DESC LIMIT $1";

pub(super) struct Join(AnyConnection);

impl Join {
    pub(super) async fn open(system: &System) -> anyhow::Result<Self> {
        sqlx::any::install_default_drivers();
        let [catalog, artwork] = ["catalog", "artwork"].map(|service| system.database(service));
        let mut connection = AnyConnection::connect(&format!("sqlite://{}?mode=ro", catalog.display())).await?;
        let attach = sqlx::query("ATTACH DATABASE $1 AS artwork").bind(artwork.display().to_string());
        attach.execute(&mut connection).await?;
        Ok(Self(connection))
    }

    /// The number of rows, at most `most`.
    pub(super) async fn rows(&mut self, most: usize) -> anyhow::Result<usize> {
        let limit = i64::try_from(most)?;
        Ok(sqlx::query(JOIN).bind(limit).fetch_all(&mut self.0).await?.len())
    }
}
