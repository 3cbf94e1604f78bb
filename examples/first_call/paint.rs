//! Paints a picture, so that the example needs no download: the Mandelbrot set with film grain.

use std::error::Error;
use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

/// Paints a picture of this size, in pixels, as a PNG file.
pub(crate) fn png(width: u32, height: u32) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut grain = 1_u32;
    let picture = RgbImage::from_fn(width, height, |x, y| {
        // Xorshift noise does not compress, so the file is as large as a photograph's.
        grain ^= grain << 13;
        grain ^= grain >> 17;
        grain ^= grain << 5;
        let [red, green, blue, _] = grain.to_le_bytes().map(|byte| byte & 31);
        let steps = steps(f64::from(x) / f64::from(width) * 3.0 - 2.2, f64::from(y) / f64::from(height) * 1.7 - 0.85);
        Rgb([steps.saturating_mul(2) | red, steps.saturating_mul(5) & 0xe0 | green, (64 + steps) & 0xe0 | blue])
    });
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

/// The number of iterations before a point escapes, at most 96.
fn steps(re: f64, im: f64) -> u8 {
    let (mut a, mut b, mut steps) = (0.0, 0.0, 0);
    while a * a + b * b < 4.0 && steps < 96 {
        (a, b, steps) = (a * a - b * b + re, 2.0 * a * b + im, steps + 1);
    }
    steps
}
