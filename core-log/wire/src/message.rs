//! The traits that every generated struct has.

use crate::{ApiKey, DecodeError, FrameReader, FrameWriter, RequestBody, ResponseBody, UnexpectedBody};

/// A struct with a wire form in each of its versions.
pub trait Message: Sized {
    /// Writes the value in `version`. Fields that the version lacks are ignored.
    fn encode(&self, w: &mut FrameWriter, version: i16);

    /// Reads a value of `version`. Fields that the version lacks get Kafka's defaults.
    ///
    /// # Errors
    ///
    /// The bytes are not such a message, or the codec does not cover the version. Bytes after the message are left for
    /// [`FrameReader::finish`].
    fn decode(r: &mut FrameReader, version: i16) -> Result<Self, DecodeError>;
}

/// A request, tied to its API key and its response.
pub trait Request: Message + Into<RequestBody> + TryFrom<RequestBody, Error = UnexpectedBody> {
    /// The API key in the header.
    const KEY: ApiKey;
    /// What a broker answers.
    type Response: Message + Into<ResponseBody> + TryFrom<ResponseBody, Error = UnexpectedBody>;
}
