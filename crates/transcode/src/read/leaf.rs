//! Values that are one text, number or boolean of JSON, and their wire.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Error, Visitor};

use super::context::{Context, Read, quote, unexpected};
use crate::field_mask;
use crate::table::{EnumTable, Kind};
use crate::time::{self, Time};
use crate::wire::{WireType, put_bytes, put_tag, put_varint};

/// What a leaf is.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    Scalar(Kind),
    Enum(&'a EnumTable),
    Timestamp,
    Duration,
    FieldMask,
}

impl<'a> Form<'a> {
    /// What a caller should have sent.
    fn expected(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Scalar(Kind::Double | Kind::Float) => "a number",
            Self::Scalar(Kind::Int32 | Kind::Sint32 | Kind::Sfixed32) => "a whole number of 32 bits",
            Self::Scalar(Kind::Uint32 | Kind::Fixed32) => "a whole number of 32 bits that is not negative",
            Self::Scalar(Kind::Int64 | Kind::Sint64 | Kind::Sfixed64) => "a whole number of 64 bits",
            Self::Scalar(Kind::Uint64 | Kind::Fixed64) => "a whole number of 64 bits that is not negative",
            Self::Scalar(Kind::Bool) => "true or false",
            Self::Scalar(Kind::Bytes) => "base64",
            Self::Scalar(_) => "a string",
            Self::Enum(table) => return Cow::Owned(table.shown()),
            Self::Timestamp => "a time such as \"2024-01-31T12:00:00Z\", in the years 1 to 9999",
            Self::Duration => "a duration such as \"1.5s\", of at most 10000 years",
            Self::FieldMask => "paths such as \"title.createTime,name\"",
        })
    }

    /// Writes what `text` says, without a tag. A boolean is no text in JSON; `from_url` reads it as well, and an enum
    /// by its number. `false`, and nothing that counts, if the text does not say such a value.
    pub(super) fn write_text(self, out: &mut Vec<u8>, text: &str, from_url: bool) -> bool {
        match self {
            Self::Scalar(Kind::String) => {
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
                true
            }
            Self::Scalar(Kind::Bytes) => write_base64(out, text),
            Self::Scalar(Kind::Bool) if from_url => match text {
                "true" | "false" => {
                    out.push((text == "true").into());
                    true
                }
                _ => false,
            },
            Self::Scalar(Kind::Double | Kind::Float) => {
                let number = match text {
                    "NaN" => Some(f64::NAN),
                    "Infinity" => Some(f64::INFINITY),
                    "-Infinity" => Some(f64::NEG_INFINITY),
                    _ => number(text),
                };
                number.is_some_and(|number| self.write_float(out, number))
            }
            Self::Scalar(_) => match integer(text) {
                Some(whole) => self.write_integer(out, whole),
                None => number(text).is_some_and(|number| self.write_number(out, number)),
            },
            Self::Enum(table) => match table.number(text) {
                Some(number) => self.write_integer(out, number.into()),
                None if from_url => integer(text).is_some_and(|number| self.write_integer(out, number)),
                None => false,
            },
            Self::Timestamp => time::read_timestamp(text).map(|time| write_time(out, time)).is_some(),
            Self::Duration => time::read_duration(text).map(|time| write_time(out, time)).is_some(),
            Self::FieldMask => field_mask::read_paths(text, |path| put_bytes(out, 1, path.as_bytes())),
        }
    }

    /// Writes a number with a fraction or an exponent.
    fn write_number(self, out: &mut Vec<u8>, number: f64) -> bool {
        match self {
            Self::Scalar(Kind::Double | Kind::Float) => self.write_float(out, number),
            // Every integer of 64 bits is below 2^64, and the conversion of such a number is exact.
            _ if number.fract() == 0.0 && number.abs() <= 18_446_744_073_709_551_616.0 => {
                self.write_integer(out, number as i128)
            }
            _ => false,
        }
    }

    fn write_float(self, out: &mut Vec<u8>, number: f64) -> bool {
        if let Self::Scalar(Kind::Float) = self {
            let float = number as f32;
            out.extend_from_slice(&float.to_le_bytes());
            // A number that is too large for a float has become infinite.
            return float.is_finite() == number.is_finite();
        }
        out.extend_from_slice(&number.to_le_bytes());
        true
    }

    /// Writes an integer. `false` if it is out of range, or if this is no number.
    #[inline]
    fn write_integer(self, out: &mut Vec<u8>, number: i128) -> bool {
        let small = i32::try_from(number);
        match self {
            Self::Scalar(Kind::Int32) | Self::Enum(_) => {
                small.map(|number| put_varint(out, i64::from(number) as u64)).is_ok()
            }
            Self::Scalar(Kind::Sint32) => {
                small.map(|number| put_varint(out, u64::from((number << 1 ^ number >> 31) as u32))).is_ok()
            }
            Self::Scalar(Kind::Sfixed32) => small.map(|number| out.extend_from_slice(&number.to_le_bytes())).is_ok(),
            Self::Scalar(Kind::Uint32) => u32::try_from(number).map(|number| put_varint(out, number.into())).is_ok(),
            Self::Scalar(Kind::Fixed32) => {
                u32::try_from(number).map(|number| out.extend_from_slice(&number.to_le_bytes())).is_ok()
            }
            Self::Scalar(Kind::Int64) => i64::try_from(number).map(|number| put_varint(out, number as u64)).is_ok(),
            Self::Scalar(Kind::Sint64) => {
                i64::try_from(number).map(|number| put_varint(out, (number << 1 ^ number >> 63) as u64)).is_ok()
            }
            Self::Scalar(Kind::Sfixed64) => {
                i64::try_from(number).map(|number| out.extend_from_slice(&number.to_le_bytes())).is_ok()
            }
            Self::Scalar(Kind::Uint64) => u64::try_from(number).map(|number| put_varint(out, number)).is_ok(),
            Self::Scalar(Kind::Fixed64) => {
                u64::try_from(number).map(|number| out.extend_from_slice(&number.to_le_bytes())).is_ok()
            }
            Self::Scalar(Kind::Double | Kind::Float) => self.write_float(out, number as f64),
            _ => false,
        }
    }

    /// Says what is wrong with `text`.
    pub(super) fn mistake(self, text: &str) -> String {
        format!("must be {}, not {}", self.expected(), quote(text))
    }
}

/// Reads a leaf.
pub(super) struct Leaf<'s, 'a> {
    pub(super) context: &'s mut Context<'a>,
    pub(super) form: Form<'a>,
}

impl Leaf<'_, '_> {
    fn number<E: Error>(self, written: bool, found: impl std::fmt::Display) -> Result<Read, E> {
        Ok(if written { Read::Value } else { self.context.unexpected(self.form.expected(), found) })
    }
}

impl<'de> Visitor<'de> for Leaf<'_, '_> {
    type Value = Read;

    unexpected!(|leaf: &Self| leaf.form.expected() => list object);

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        match self.form {
            Form::Enum(table) if table.is_null => {
                self.context.out.push(0);
                Ok(Read::Value)
            }
            _ => Ok(Read::Null),
        }
    }

    fn visit_bool<E: Error>(self, found: bool) -> Result<Read, E> {
        let is_bool = matches!(self.form, Form::Scalar(Kind::Bool));
        self.context.out.push(found.into());
        self.number(is_bool, found)
    }

    fn visit_u64<E: Error>(self, found: u64) -> Result<Read, E> {
        let written = self.form.write_integer(self.context.out, found.into());
        self.number(written, found)
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<Read, E> {
        let written = self.form.write_integer(self.context.out, found.into());
        self.number(written, found)
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<Read, E> {
        let written = self.form.write_number(self.context.out, found);
        self.number(written, found)
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<Read, E> {
        if !self.form.write_text(self.context.out, found, false) {
            self.context.mistake(self.form.mistake(found));
        }
        Ok(Read::Value)
    }
}

/// `seconds` = 1 and `nanos` = 2.
fn write_time(out: &mut Vec<u8>, time: Time) {
    if time.seconds != 0 {
        put_tag(out, 1, WireType::Varint);
        put_varint(out, time.seconds as u64);
    }
    if time.nanos != 0 {
        put_tag(out, 2, WireType::Varint);
        put_varint(out, i64::from(time.nanos) as u64);
    }
}

/// Both alphabets, padded or not, as the specification wants.
const BASE64: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const OF_MIME: GeneralPurpose = GeneralPurpose::new(&STANDARD, BASE64);
const OF_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, BASE64);

fn write_base64(out: &mut Vec<u8>, text: &str) -> bool {
    let length = text.trim_end_matches('=').len() * 3 / 4;
    put_varint(out, length as u64);
    let start = out.len();
    let engine = if text.contains(['-', '_']) { OF_URLS } else { OF_MIME };
    engine.decode_vec(text, out).is_ok() && out.len() == start + length
}

/// A whole number as JSON writes it.
fn integer(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let leading_zero = digits.len() > 1 && digits[0] == b'0';
    if leading_zero || !(1..=20).contains(&digits.len()) {
        return None;
    }
    let number = digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i128::from(digit - b'0')))?;
    Some(if digits.len() < text.len() { -number } else { number })
}

/// A number as JSON writes it, with nothing around it.
fn number(text: &str) -> Option<f64> {
    let ends = |ending: Option<&u8>| ending.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
    let bytes = text.as_bytes();
    if !ends(bytes.first()) || !ends(bytes.last()) {
        return None;
    }
    serde_json::from_str(text).ok()
}
