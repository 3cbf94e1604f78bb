//! The sizes, and what is done to a picture. No I/O, no wire types.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits};
use mesh::Violations;
use uuid::Uuid;

/// In bytes, as it is sent.
pub(crate) const LARGEST_IMAGE: usize = 16 * 1024 * 1024;
/// In pixels. A small file can hold an enormous picture.
const MOST_PIXELS: u64 = 50_000_000;
/// In bytes, once decoded: four for each pixel, and as much again for the decoder.
const MOST_MEMORY: u64 = MOST_PIXELS * 8;
/// In bytes: any client's default limit for a message, less what is around the picture.
const LARGEST_RENDITION: usize = 4 * 1024 * 1024 - 64 * 1024;
/// JPEG qualities, the best first: the next is tried when a picture comes out too large.
const QUALITIES: [u8; 5] = [85, 75, 60, 40, 20];

/// How wide a picture is at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Thumbnail,
    Mobile,
    Tablet,
    Tv,
}

/// A picture in one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendition {
    pub(crate) size: Size,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// JPEG.
    pub(crate) content: Vec<u8>,
}

/// The pictures of a title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Artwork {
    pub(crate) title: Uuid,
    /// One in every size, the smallest first, without their content.
    pub(crate) renditions: Vec<Rendition>,
    /// Microseconds since 1970.
    pub(crate) create_time: i64,
}

/// Why artwork refuses, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(Violations),
    #[error("the catalog has no title {0}")]
    UnknownTitle(Uuid),
    #[error("there is no artwork of title {0}")]
    NotFound(Uuid),
    #[error("the picture cannot be decoded: {0}")]
    Undecodable(image::ImageError),
    #[error("the picture is too large even in the lowest quality: it is too long for its width")]
    TooLarge,
    #[error("rendering was interrupted")]
    Interrupted,
    #[error(transparent)]
    Store(#[from] mesh::store::Error),
}

impl Size {
    pub(crate) const ALL: [Self; 4] = [Self::Thumbnail, Self::Mobile, Self::Tablet, Self::Tv];

    /// In pixels.
    pub(crate) fn width(self) -> u32 {
        match self {
            Self::Thumbnail => 160,
            Self::Mobile => 480,
            Self::Tablet => 1024,
            Self::Tv => 1920,
        }
    }

    /// What its step is called; never changed, for renderings outlive processes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Thumbnail => "thumbnail",
            Self::Mobile => "mobile",
            Self::Tablet => "tablet",
            Self::Tv => "tv",
        }
    }
}

/// Checks what can be known of a picture without decoding it.
pub(crate) fn check(image: &[u8], violations: &mut Violations) {
    let field = "image";
    violations.check(!image.is_empty(), field, "must not be empty");
    violations.check(image.len() <= LARGEST_IMAGE, field, "must have at most 16 MiB");
    if image.is_empty() || image.len() > LARGEST_IMAGE {
        return;
    }
    let reader = reader(image);
    let known = matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP));
    let dimensions = if known { reader.into_dimensions().ok() } else { None };
    match dimensions {
        None => violations.check(false, field, "must be a PNG, JPEG or WebP"),
        Some((width, height)) => {
            let few = u64::from(width) * u64::from(height) <= MOST_PIXELS;
            violations.check(few, field, format!("must have at most 50 million pixels, not {width} × {height}"));
        }
    }
}

/// Decodes a picture, upright. Takes seconds and hundreds of megabytes for the largest.
pub(crate) fn decode(image: &[u8]) -> Result<DynamicImage, Error> {
    let mut decoder = reader(image).into_decoder().map_err(Error::Undecodable)?;
    let orientation = decoder.orientation().map_err(Error::Undecodable)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(Error::Undecodable)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Renders a picture in one size: its aspect ratio is kept, and nothing is enlarged.
pub(crate) fn render(picture: &DynamicImage, size: Size) -> Result<Rendition, Error> {
    let width = size.width().min(picture.width());
    let exact = f64::from(picture.height()) * f64::from(width) / f64::from(picture.width());
    let height = (exact.round() as u32).max(1);
    // JPEG has no transparency.
    let resized = picture.resize_exact(width, height, FilterType::Triangle).into_rgb8();
    for quality in QUALITIES {
        let mut content = Vec::new();
        let encoded = JpegEncoder::new_with_quality(&mut content, quality).encode_image(&resized);
        encoded.map_err(|_| Error::TooLarge)?;
        if content.len() <= LARGEST_RENDITION {
            return Ok(Rendition { size, width, height, content });
        }
    }
    Err(Error::TooLarge)
}

fn reader(image: &[u8]) -> ImageReader<Cursor<&[u8]>> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_MEMORY);
    let mut reader = ImageReader::new(Cursor::new(image));
    reader.limits(limits);
    // Reading from memory does not fail.
    reader.with_guessed_format().unwrap_or_else(|_| ImageReader::new(Cursor::new(image)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    fn picture(width: u32, height: u32) -> DynamicImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x % 256) as u8, (y % 256) as u8, ((x * y) % 256) as u8])).into()
    }

    fn encoded(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture(width, height).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn wrong_with(image: &[u8]) -> String {
        let mut violations = Violations::default();
        check(image, &mut violations);
        violations.finish().map_or_else(|wrong| wrong.to_string(), |()| String::new())
    }

    #[test]
    fn the_aspect_ratio_is_kept_and_nothing_is_enlarged() {
        let of = |width, height, size| {
            let rendition = render(&picture(width, height), size).unwrap();
            let decoded = image::load_from_memory(&rendition.content).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (rendition.width, rendition.height));
            (rendition.width, rendition.height)
        };
        assert_eq!(of(400, 200, Size::Thumbnail), (160, 80));
        assert_eq!(of(100, 300, Size::Thumbnail), (100, 300));
        assert_eq!(of(4000, 1, Size::Mobile), (480, 1));
    }

    #[test]
    fn the_three_formats_are_known_and_others_are_not() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            assert_eq!(wrong_with(&encoded(format, 30, 20)), "", "{format:?}");
            assert_eq!(decode(&encoded(format, 30, 20)).unwrap().width(), 30);
        }
        assert!(wrong_with(b"GIF89a and so on").contains("PNG, JPEG or WebP"));
        assert!(wrong_with(b"").contains("empty"));
        assert!(wrong_with(&vec![0; LARGEST_IMAGE + 1]).contains("16 MiB"));
    }

    #[test]
    fn a_decompression_bomb_is_recognised_by_its_head() {
        let mut png = encoded(ImageFormat::Png, 1, 1);
        // Width and height stand at a fixed place behind the signature; the checksum of that part follows them.
        png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let checksum = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&checksum.to_be_bytes());
        assert!(wrong_with(&png).contains("50 million pixels"), "{}", wrong_with(&png));
    }

    #[test]
    fn half_a_picture_is_no_picture() {
        let png = encoded(ImageFormat::Png, 300, 200);
        assert!(matches!(decode(&png[..png.len() / 2]), Err(Error::Undecodable(_))));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }
}
