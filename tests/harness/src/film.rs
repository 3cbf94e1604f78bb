//! The titles and pictures of the example, and the calls that many tests make.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Grpcurl, Postgres, Process, uuid};

/// The Postgres databases of a monolith.
pub struct Databases {
    /// The URL of the catalog's.
    pub catalog: String,
    /// The URL of artwork's.
    pub artwork: String,
}

impl Databases {
    /// Creates them, empty. Their names begin with `prefix`.
    pub fn create(postgres: &Postgres, prefix: &str) -> Self {
        let [catalog, artwork] =
            ["catalog", "artwork"].map(|service| postgres.database(&format!("{prefix}_{service}")));
        Self { catalog, artwork }
    }

    /// Starts a monolith on them.
    pub fn start(&self) -> Process {
        self.start_in(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Like [`start`](Self::start), in the folder of an earlier process.
    pub fn start_in(&self, folder: TempDir) -> Process {
        let environment = [
            ("MESH__SERVICES__CATALOG__DATABASE_URL", &*self.catalog),
            ("MESH__SERVICES__ARTWORK__DATABASE_URL", &*self.artwork),
        ];
        Process::start_in(folder, "monolith", &environment)
    }
}

/// Calls a method of the catalog and returns the response.
pub fn call(catalog: &Grpcurl, method: &str, request: &Value) -> Value {
    catalog.call(&format!("catalog.v1.CatalogService/{method}"), request).json()
}

/// Calls a method of the catalog that fails; returns the code and the reason.
pub fn failure(catalog: &Grpcurl, method: &str, request: &Value) -> (String, String) {
    catalog.call(&format!("catalog.v1.CatalogService/{method}"), request).failure()
}

/// Creates a title of this name.
pub fn create(catalog: &Grpcurl, name: &str) -> Value {
    let request = json!({"request_id": uuid(), "name": name, "synopsis": "A city", "year": 1927, "price_cents": 399});
    call(catalog, "CreateTitle", &request)["title"].clone()
}

/// A picture that does not compress: over 5 MB.
pub fn large_picture() -> Vec<u8> {
    let mut noise = 1_u32;
    let picture = RgbImage::from_fn(2400, 1350, |x, y| {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        let [a, b, c, _] = noise.to_le_bytes();
        Rgb([(x / 10) as u8 ^ (a & 63), (y / 6) as u8 ^ (b & 63), c & 127])
    });
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).expect("a picture");
    let png = png.into_inner();
    assert!(png.len() > 5_000_000, "{} bytes", png.len());
    png
}

/// A picture of one colour, 320 × 180 pixels.
pub fn small_picture() -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    RgbImage::new(320, 180).write_to(&mut png, ImageFormat::Png).expect("a picture");
    png.into_inner()
}

/// The small picture as the JSON of a request has it, in base64.
pub fn tiny_picture() -> String {
    STANDARD.encode(small_picture())
}

/// A request to render a picture for a title, as JSON.
pub fn request(title_id: &Value, image: &[u8]) -> Value {
    json!({"request_id": uuid(), "title_id": title_id, "image": STANDARD.encode(image)})
}

/// Starts to render a picture for a title; returns the operation's name.
pub fn render(grpcurl: &Grpcurl, title_id: &Value, image: &[u8]) -> String {
    let operation = grpcurl.call_with_input("artwork.v1.ArtworkService/RenderArtwork", &request(title_id, image));
    operation.json()["name"].as_str().expect("a name").to_owned()
}

/// Waits until an operation is done, and returns it.
pub fn wait(grpcurl: &Grpcurl, name: &str) -> Value {
    let done = grpcurl.call("google.longrunning.Operations/WaitOperation", &json!({"name": name, "timeout": "30s"}));
    let done = done.json();
    assert_eq!(done["done"], true, "{done}");
    done
}

/// A picture of one pixel, which renders almost at once.
pub fn smallest_picture() -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    RgbImage::new(1, 1).write_to(&mut png, ImageFormat::Png).expect("a picture");
    png.into_inner()
}
