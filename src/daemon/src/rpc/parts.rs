//! Long lists in parts, for clients that ask for them as a stream.

use futures::{StreamExt, stream};
use tonic::Status;
use tonic::codegen::BoxStream;

/// How many objects one message has. Labels and annotations of an object are at most a quarter of a mebibyte, so that a
/// message stays well below what a client takes.
const PART: usize = 32;

/// A stream of messages, each made from some of the items; none for no items.
pub(super) fn in_parts<T, M>(items: Vec<T>, message: fn(Vec<T>) -> M) -> BoxStream<M>
where
    T: Send + 'static,
    M: Send + 'static,
{
    stream::iter(items).chunks(PART).map(move |part| Ok::<_, Status>(message(part))).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_item_comes_once_and_no_part_is_empty() {
        for count in [0, 1, PART, PART + 1, 3 * PART] {
            let items: Vec<_> = (0..count).collect();
            let parts: Vec<_> = in_parts(items.clone(), |part| part).collect().await;
            let parts: Vec<_> = parts.into_iter().map(Result::unwrap).collect();
            assert!(parts.iter().all(|part| !part.is_empty()), "{count}");
            assert_eq!(parts.concat(), items);
        }
    }
}
