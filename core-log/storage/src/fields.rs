//! Reading big-endian fields of small binary files, with bounds.

use crate::error::FormatProblem;

/// A cursor over bytes that may be cut short.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// At the beginning.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FormatProblem> {
        let chunk = self.bytes[self.at..]
            .first_chunk::<N>()
            .ok_or(FormatProblem::Short(self.at))?;
        self.at += N;
        Ok(*chunk)
    }

    /// Bytes not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8, FormatProblem> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// `INT16`.
    pub(crate) fn i16(&mut self) -> Result<i16, FormatProblem> {
        self.take().map(i16::from_be_bytes)
    }

    /// `INT32`.
    pub(crate) fn i32(&mut self) -> Result<i32, FormatProblem> {
        self.take().map(i32::from_be_bytes)
    }

    /// `UINT32`.
    pub(crate) fn u32(&mut self) -> Result<u32, FormatProblem> {
        self.take().map(u32::from_be_bytes)
    }

    /// `INT64`.
    pub(crate) fn i64(&mut self) -> Result<i64, FormatProblem> {
        self.take().map(i64::from_be_bytes)
    }
}
