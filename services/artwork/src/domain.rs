//! The sizes, the limits and the image processing. No I/O, no wire types.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::error::DecodingError;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits};
use mesh::Violations;
use uuid::Uuid;

/// In pixels. Guards against decompression bombs: a small file may decode into an enormous picture.
const MAX_PIXELS: u64 = 50_000_000;
/// In bytes, decoded: four per pixel, and as much again for the decoder.
const MAX_MEMORY: u64 = MAX_PIXELS * 8;
/// In bytes: gRPC's default message limit, less the other fields of the response.
const LARGEST_RENDITION: usize = 4 * 1024 * 1024 - 64 * 1024;
/// JPEG qualities, best first. A rendition that is too large is encoded again with the next one.
const QUALITIES: [u8; 5] = [85, 75, 60, 40, 20];

/// The most titles whose artwork one call reads. The contract repeats it.
pub(crate) const MAX_BATCH: usize = 100;

/// The maximum width of a rendition.
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

/// Why a call or a rendering fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(Violations),
    #[error("title {0} does not exist in the catalog: create the title first")]
    UnknownTitle(Uuid),
    #[error("title {0} has no artwork: render artwork for the title first")]
    NotFound(Uuid),
    #[error("image cannot be decoded ({0}): send a complete PNG, JPEG or WebP")]
    Undecodable(ImageError),
    #[error("a rendition is too large even at the lowest JPEG quality: send an image that is less tall for its width")]
    TooLarge,
    #[error("rendering was interrupted: retry the operation")]
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

    /// The name of the size's step. Must never change: a restarted process finds finished steps by name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Thumbnail => "thumbnail",
            Self::Mobile => "mobile",
            Self::Tablet => "tablet",
            Self::Tv => "tv",
        }
    }
}

/// Checks size (at most `largest` bytes), format and dimensions, without decoding the image.
pub(crate) fn check(image: &[u8], largest: usize, violations: &mut Violations) {
    let field = "image";
    violations.check(!image.is_empty(), field, "must not be empty");
    violations.check(image.len() <= largest, field, format!("must have at most {}", in_words(largest)));
    if image.is_empty() || image.len() > largest {
        return;
    }
    let reader = reader(image);
    let known = matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP));
    let dimensions = if known { reader.into_dimensions().ok() } else { None };
    match dimensions {
        None => violations.check(false, field, "must be a PNG, JPEG or WebP"),
        Some((width, height)) => {
            let few = u64::from(width) * u64::from(height) <= MAX_PIXELS;
            violations.check(few, field, format!("must have at most 50 million pixels, not {width} × {height}"));
        }
    }
}

/// A size in bytes as a message shows it.
fn in_words(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    if bytes.is_multiple_of(MIB) { format!("{} MiB", bytes / MIB) } else { format!("{bytes} bytes") }
}

/// Decodes an image and applies its orientation. The largest images take seconds and hundreds of megabytes.
pub(crate) fn decode(image: &[u8]) -> Result<DynamicImage, Error> {
    let reader = reader(image);
    if reader.format() == Some(ImageFormat::Jpeg) && !is_whole_jpeg(image) {
        let cut = DecodingError::new(ImageFormat::Jpeg.into(), "the file ends before the image does");
        return Err(Error::Undecodable(ImageError::Decoding(cut)));
    }
    let mut decoder = reader.into_decoder().map_err(Error::Undecodable)?;
    let orientation = decoder.orientation().map_err(Error::Undecodable)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(Error::Undecodable)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Whether a JPEG has its end marker. The decoder fills up an image that was cut off, without an error. Bytes behind
/// the end do not matter: cameras append previews and films there.
fn is_whole_jpeg(jpeg: &[u8]) -> bool {
    let mut rest = jpeg;
    // Before a marker there may be fill bytes and, behind the start of a scan, its data: there, 0xff 0x00 is a data
    // byte, and the restart markers 0xd0 to 0xd7 belong to the scan.
    while let Some(at) = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd8))
    {
        let (marker, behind) = (rest[at + 1], &rest[at + 2..]);
        if marker == 0xd9 {
            return true;
        }
        // Any other segment begins with its length, the two bytes of the length included.
        let length = behind.first_chunk().map_or(usize::MAX, |length| usize::from(u16::from_be_bytes(*length)));
        let Some(next) = behind.get(length..) else { return false };
        rest = next;
    }
    false
}

/// Renders a picture in one size, as a JPEG. Keeps the aspect ratio and never enlarges.
pub(crate) fn render(picture: &DynamicImage, size: Size) -> Result<Rendition, Error> {
    let width = size.width().min(picture.width());
    let exact = f64::from(picture.height()) * f64::from(width) / f64::from(picture.width());
    let height = (exact.round() as u32).max(1);
    // JPEG has no alpha channel.
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
    limits.max_alloc = Some(MAX_MEMORY);
    let mut reader = ImageReader::new(Cursor::new(image));
    reader.limits(limits);
    // Reading from memory cannot fail.
    reader.with_guessed_format().unwrap_or_else(|_| ImageReader::new(Cursor::new(image)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: usize = 16 * 1024 * 1024;
    use image::{Rgb, RgbImage};

    fn picture(width: u32, height: u32) -> DynamicImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x % 256) as u8, (y % 256) as u8, ((x * y) % 256) as u8])).into()
    }

    fn encoded(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture(width, height).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn violations_of(image: &[u8]) -> String {
        let mut violations = Violations::default();
        check(image, LARGEST, &mut violations);
        violations.finish().map_or_else(|violations| violations.to_string(), |()| String::new())
    }

    #[test]
    fn render_keeps_the_aspect_ratio_and_never_enlarges() {
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
    fn check_accepts_png_jpeg_and_webp_only() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            assert_eq!(violations_of(&encoded(format, 30, 20)), "", "{format:?}");
            assert_eq!(decode(&encoded(format, 30, 20)).unwrap().width(), 30);
        }
        assert!(violations_of(b"GIF89a and so on").contains("PNG, JPEG or WebP"));
        assert!(violations_of(b"").contains("empty"));
        assert!(violations_of(&vec![0; LARGEST + 1]).contains("16 MiB"));
        assert_eq!(in_words(1000), "1000 bytes");
    }

    #[test]
    fn check_refuses_a_decompression_bomb_by_its_header() {
        let mut png = encoded(ImageFormat::Png, 1, 1);
        // The IHDR chunk follows the signature: width and height at a fixed offset, then its checksum.
        png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let checksum = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&checksum.to_be_bytes());
        assert!(violations_of(&png).contains("50 million pixels"), "{}", violations_of(&png));
    }

    #[test]
    fn decode_refuses_a_truncated_image() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let image = encoded(format, 300, 200);
            for length in [image.len() / 2, image.len() * 9 / 10] {
                assert!(matches!(decode(&image[..length]), Err(Error::Undecodable(_))), "{format:?}, {length} bytes");
            }
            let appended = [&image[..], b"a preview"].concat();
            assert!(format == ImageFormat::WebP || decode(&appended).is_ok(), "{format:?}");
        }
    }

    #[test]
    fn decode_finds_the_end_of_a_jpeg_behind_its_preview() {
        let (jpeg, preview) = (encoded(ImageFormat::Jpeg, 300, 200), encoded(ImageFormat::Jpeg, 8, 8));
        // An APP1 segment with a whole JPEG in it.
        let length = u16::try_from(preview.len() + 2).unwrap().to_be_bytes();
        let with_preview = [&jpeg[..2], &[0xff, 0xe1], &length, &preview, &jpeg[2..]].concat();
        assert!(decode(&with_preview).is_ok());
        assert!(decode(&with_preview[..with_preview.len() / 2]).is_err(), "the preview's end is not the image's");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }
}
