//! A blob as a stream. When the connection breaks, the rest is asked for (`Range`) and the hash goes on; what was spliced
//! wrongly can't pass, because the digest covers all of it.

use super::pause::jittered;
use super::session::{Opened, Session};
use super::transport::BodyStream;
use super::{Cause, RegistryError, Stage};
use crate::digest::Hash;
use bytes::Bytes;
use cringle_domain::reference::Digest;
use http::{HeaderMap, Response, StatusCode, header};
use hyper::body::Incoming;
use std::time::Duration;

/// A blob that is being fetched. It is whole and right if [`Self::next`] came to its end without an error.
#[derive(Debug)]
pub(crate) struct Blob<'session> {
    session: &'session Session,
    stage: Stage,
    digest: &'session Digest,
    size: u64,
    source: Option<Source>,
    received: u64,
    hash: Hash,
    /// Breaks since the last progress.
    breaks: u32,
    finished: bool,
}

/// An answer that has the blob from some byte on.
#[derive(Debug)]
struct Source {
    host: String,
    body: BodyStream,
    /// Bytes that are here already.
    to_skip: u64,
}

impl<'session> Blob<'session> {
    pub(super) fn new(
        session: &'session Session,
        stage: Stage,
        digest: &'session Digest,
        size: u64,
    ) -> Self {
        let hash = Hash::new(digest.algorithm());
        Self {
            session,
            stage,
            digest,
            size,
            source: None,
            received: 0,
            hash,
            breaks: 0,
            finished: false,
        }
    }

    /// The next piece; nothing at the end, when size and digest were right.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while !self.finished {
            // Failures of the request itself were retried below already.
            let mut source = match self.source.take() {
                Some(source) => source,
                None => self.open().await?,
            };
            match source.next(self.received, self.size).await {
                Ok(Some(piece)) => {
                    self.source = Some(source);
                    self.received += length_of(&piece);
                    self.breaks = 0;
                    self.hash.update(&piece);
                    return Ok(Some(piece));
                }
                Ok(None) => self.finish(&source.host)?,
                Err(cause) => self.recover(&source.host, cause).await?,
            }
        }
        Ok(None)
    }

    /// The receiver took so long; the sender isn't to blame for that time.
    pub(crate) fn extend(&mut self, time: Duration) {
        if let Some(source) = &mut self.source {
            source.body.extend(time);
        }
    }

    async fn open(&self) -> Result<Source, RegistryError> {
        let Opened { response, host } =
            self.session.open_blob(self.stage, self.digest, self.received).await?;
        match starts_at(&response, self.size) {
            Ok(start) if start <= self.received => {
                let body = self.session.transport().stream(response.into_body());
                Ok(Source { host, body, to_skip: self.received - start })
            }
            Ok(_beyond) => {
                let problem = "the answer begins after the byte that was asked for";
                Err(self.session.error(self.stage, &host, Cause::Protocol(problem)))
            }
            Err(cause) => Err(self.session.error(self.stage, &host, cause)),
        }
    }

    fn finish(&mut self, host: &str) -> Result<(), RegistryError> {
        let found = std::mem::replace(&mut self.hash, Hash::new(self.digest.algorithm())).finish();
        if found != *self.digest {
            let cause =
                Cause::Digest { expected: self.digest.to_string(), found: found.to_string() };
            return Err(self.session.error(self.stage, host, cause));
        }
        self.finished = true;
        Ok(())
    }

    async fn recover(&mut self, host: &str, cause: Cause) -> Result<(), RegistryError> {
        let retry = self.session.retry();
        self.breaks += 1;
        if !cause.is_passing() || self.breaks >= retry.attempts {
            return Err(self.session.error(self.stage, host, cause));
        }
        tracing::debug!(digest = %self.digest, received = self.received, %cause, "taking a blob up again");
        tokio::time::sleep(jittered(retry.first_delay * self.breaks)).await;
        Ok(())
    }
}

impl Source {
    /// The next piece that isn't here yet; nothing at the blob's end.
    async fn next(&mut self, received: u64, size: u64) -> Result<Option<Bytes>, Cause> {
        loop {
            let Some(mut piece) = self.body.next().await? else {
                return if received == size && self.to_skip == 0 {
                    Ok(None)
                } else {
                    Err(Cause::Broken { received, source: None })
                };
            };
            let known =
                usize::try_from(self.to_skip).map_or(piece.len(), |left| left.min(piece.len()));
            self.to_skip -= length_of(&piece.split_to(known));
            if piece.is_empty() {
                continue;
            }
            if received.saturating_add(length_of(&piece)) > size {
                return Err(Cause::TooLarge(size));
            }
            return Ok(Some(piece));
        }
    }
}

/// The byte that an answer begins with, if what follows is as much as the blob has.
fn starts_at(response: &Response<Incoming>, size: u64) -> Result<u64, Cause> {
    let headers = response.headers();
    let start =
        if response.status() == StatusCode::PARTIAL_CONTENT { range_start(headers)? } else { 0 };
    match content_length(headers) {
        Some(length) if start.saturating_add(length) != size => {
            Err(Cause::Protocol("the blob does not have the size that the manifest says"))
        }
        Some(_) | None => Ok(start),
    }
}

/// The start in `Content-Range: bytes start-end/size`.
fn range_start(headers: &HeaderMap) -> Result<u64, Cause> {
    headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| {
            value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
        })
        .ok_or(Cause::Protocol("a part without a proper Content-Range"))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn length_of(piece: &Bytes) -> u64 {
    u64::try_from(piece.len()).unwrap_or(u64::MAX)
}
