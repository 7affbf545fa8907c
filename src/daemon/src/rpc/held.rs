//! What an answer holds until its last byte has been written to the connection.
//!
//! A method that answers with a large message is done long before the message is: it is encoded, and then waits in the
//! connection's queue for a client that may read slowly or not at all. What the method leaves in the answer's extensions as
//! [`Held`] is tied to the bytes themselves, which the connection lets go of when it has written them, or when the client
//! or its request is gone. Why not to the body: that is used up when its bytes are in the queue.

use cringle_service::supervisor::Place;
use http::Response;
use hyper::body::{Bytes, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;

/// A place among the answers that may be large, or none. Free when all copies are dropped.
#[derive(Debug, Clone)]
pub(super) struct Held(Option<Arc<Place>>);

impl Held {
    /// Holds this place.
    pub(super) fn new(place: Option<Place>) -> Self {
        Self(place.map(Arc::new))
    }
}

/// The answer; what its extensions hold is held until its bytes are written.
pub(super) fn until_written(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove() {
        Some(Held(Some(place))) => response.map(|body| Body::new(Holding { body, place })),
        Some(Held(None)) | None => response,
    }
}

/// A body whose bytes hold a place.
#[derive(Debug)]
struct Holding {
    body: Body,
    place: Arc<Place>,
}

/// Bytes that hold a place.
struct Written {
    bytes: Bytes,
    _place: Arc<Place>,
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl hyper::body::Body for Holding {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let hold = |bytes| Bytes::from_owner(Written { bytes, _place: Arc::clone(&self.place) });
        polled.map_ok(|frame| frame.map_data(hold))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
