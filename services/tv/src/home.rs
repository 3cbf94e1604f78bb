//! Arranges titles in rows, as a television shows them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use contracts::artwork::v1::{Artwork, Size};
use contracts::catalog::v1::Title;
use contracts::library::v1::Rental;
use contracts::tv::v1::{Row, Tile};

/// Titles, with what their tiles show of other services.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) titles: Vec<Title>,
    pub(crate) artworks: Vec<Artwork>,
    pub(crate) rentals: Vec<Rental>,
}

/// A row for each decade of release, the latest first. Titles keep their order.
pub(crate) fn rows(Shelf { titles, artworks, rentals }: Shelf) -> Vec<Row> {
    let mut decades = BTreeMap::<_, Vec<Tile>>::new();
    for title in titles {
        decades.entry(Reverse(title.year / 10 * 10)).or_default().push(tile(title, &artworks, &rentals));
    }
    decades.into_iter().map(|(Reverse(decade), tiles)| Row { name: format!("{decade}s"), tiles }).collect()
}

/// The row of titles that others have watched; none without such titles.
pub(crate) fn recommended(Shelf { titles, artworks, rentals }: Shelf) -> Option<Row> {
    let tiles: Vec<_> = titles.into_iter().map(|title| tile(title, &artworks, &rentals)).collect();
    (!tiles.is_empty()).then(|| Row { name: "Others watched".to_owned(), tiles })
}

fn tile(title: Title, artworks: &[Artwork], rentals: &[Rental]) -> Tile {
    let artwork = artworks.iter().find(|artwork| artwork.title_id == title.title_id);
    let mut renditions = artwork.iter().flat_map(|artwork| &artwork.renditions);
    let picture = renditions.find(|rendition| rendition.size() == Size::Tv);
    let rental = rentals.iter().find(|rental| rental.title_id == title.title_id);
    Tile {
        picture_url: picture.map(|picture| picture.path.clone()).unwrap_or_default(),
        rented_until: rental.and_then(|rental| rental.expire_time),
        title_id: title.title_id,
        name: title.name,
        synopsis: title.synopsis,
        year: title.year,
        price_cents: title.price_cents,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::artwork::v1::Rendition;

    fn title(title_id: &str, year: i32) -> Title {
        Title { title_id: title_id.to_owned(), year, ..Title::default() }
    }

    #[test]
    fn rows_are_decades_and_keep_the_order_of_titles() {
        let titles = [("c", 1929), ("b", 2010), ("a", 1920)].map(|(id, year)| title(id, year)).to_vec();
        let rows = rows(Shelf { titles, ..Shelf::default() });
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.tiles.iter().map(|tile| tile.title_id.as_str()).collect::<String>()))
            .collect();
        assert_eq!(rows, [("2010s", "b".to_owned()), ("1920s", "ca".to_owned())]);
    }

    #[test]
    fn recommended_titles_are_one_row_or_none() {
        let titles = vec![title("b", 1960), title("a", 1927)];
        let row = recommended(Shelf { titles, ..Shelf::default() }).unwrap();
        assert_eq!(row.tiles.iter().map(|tile| &*tile.title_id).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(recommended(Shelf::default()), None);
    }

    #[test]
    fn tile_has_the_picture_and_the_rental_of_its_own_title() {
        let rendition =
            |size: Size| Rendition { size: size.into(), path: size.as_str_name().to_owned(), ..Default::default() };
        let renditions = vec![rendition(Size::Mobile), rendition(Size::Tv)];
        let artworks = [Artwork { title_id: "a".to_owned(), renditions, create_time: None }];
        let rentals = [Rental { title_id: "b".to_owned(), expire_time: Some(Default::default()), ..Rental::default() }];
        let (a, b) = (tile(title("a", 1927), &artworks, &rentals), tile(title("b", 1927), &artworks, &rentals));
        assert_eq!((a.picture_url.as_str(), a.rented_until), ("SIZE_TV", None));
        assert_eq!((b.picture_url.as_str(), b.rented_until.is_some()), ("", true));
    }
}
