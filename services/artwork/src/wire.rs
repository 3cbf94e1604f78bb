//! Conversions between the contract's messages and the domain's types.

use contracts::artwork::v1 as proto;
use mesh::error;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::domain::{Artwork, Error, Rendition, Size};

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "artwork";

/// The content type of every rendition.
pub(crate) const CONTENT_TYPE: &str = "image/jpeg";

impl From<Artwork> for proto::Artwork {
    fn from(artwork: Artwork) -> Self {
        Self {
            title_id: artwork.title.to_string(),
            renditions: artwork.renditions.iter().map(|it| rendition(artwork.title, it)).collect(),
            create_time: Some(mesh::store::timestamp(artwork.create_time)),
        }
    }
}

/// A rendition of a title.
pub(crate) fn rendition(title: Uuid, rendition: &Rendition) -> proto::Rendition {
    let size = proto::Size::from(rendition.size);
    proto::Rendition {
        size: size.into(),
        content_type: CONTENT_TYPE.to_owned(),
        width: i32::try_from(rendition.width).unwrap_or(i32::MAX),
        height: i32::try_from(rendition.height).unwrap_or(i32::MAX),
        path: format!("/v1/titles/{title}/renditions/{}", size.as_str_name()),
    }
}

impl From<Size> for proto::Size {
    fn from(size: Size) -> Self {
        match size {
            Size::Thumbnail => Self::Thumbnail,
            Size::Mobile => Self::Mobile,
            Size::Tablet => Self::Tablet,
            Size::Tv => Self::Tv,
        }
    }
}

/// From the enum's number in the contract; `SIZE_UNSPECIFIED` and unknown numbers are errors.
impl TryFrom<i32> for Size {
    type Error = ();

    fn try_from(number: i32) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|size| i32::from(proto::Size::from(*size)) == number).ok_or(())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => error::invalid_fields(DOMAIN, violations),
            Error::UnknownTitle(_) => error::status(Code::NotFound, DOMAIN, "TITLE_NOT_FOUND", message),
            Error::NotFound(_) => error::status(Code::NotFound, DOMAIN, "ARTWORK_NOT_FOUND", message),
            Error::Undecodable(_) => error::status(Code::InvalidArgument, DOMAIN, "UNDECODABLE_IMAGE", message),
            Error::TooLarge => error::status(Code::InvalidArgument, DOMAIN, "RENDITION_TOO_LARGE", message),
            Error::Interrupted => error::status(Code::Aborted, DOMAIN, "RENDERING_INTERRUPTED", message),
            Error::Store(error) => error.into(),
        }
    }
}
