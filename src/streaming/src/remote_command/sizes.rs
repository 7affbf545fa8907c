//! Sizes of a client's terminal: JSON objects with `Width` and `Height`, one after the other.

use super::Reader;
use cringle_service::streams::Size;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// The most that is kept of an object that has not come to its end.
const LONGEST: usize = 1024;

/// A stream of sizes.
pub(super) struct Sizes {
    stream: Option<Reader>,
    kept: Vec<u8>,
}

impl fmt::Debug for Sizes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sizes").field("kept", &self.kept).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Wire {
    #[serde(alias = "Width")]
    width: u16,
    #[serde(alias = "Height")]
    height: u16,
}

impl Sizes {
    /// The sizes of this stream, or none ever.
    pub(super) fn new(stream: Option<Reader>) -> Self {
        Self { stream, kept: Vec::new() }
    }

    /// The size at the beginning, if there are sizes and it comes in time.
    pub(super) async fn first(&mut self, patience: Duration) -> Option<Size> {
        self.stream.as_ref()?;
        tokio::time::timeout(patience, self.next()).await.ok()
    }

    /// The next size; waits for ever if none comes. Sizes without lines or columns, and what is no size, are passed over.
    /// May be dropped and called again.
    pub(super) async fn next(&mut self) -> Size {
        loop {
            if let Some(size) = self.take() {
                return size;
            }
            let Some(stream) = &mut self.stream else { return std::future::pending().await };
            if !matches!(stream.read_buf(&mut self.kept).await, Ok(1..)) {
                self.stream = None;
            }
        }
    }

    fn take(&mut self) -> Option<Size> {
        loop {
            let mut objects = serde_json::Deserializer::from_slice(&self.kept).into_iter::<Wire>();
            let next = objects.next();
            let read = objects.byte_offset();
            match next {
                Some(Ok(Wire { width, height })) => {
                    self.kept.drain(..read);
                    if width > 0 && height > 0 {
                        return Some(Size { rows: height, columns: width });
                    }
                }
                Some(Err(error)) if error.is_eof() && self.kept.len() < LONGEST => return None,
                Some(Err(_)) => {
                    self.kept.clear();
                    return None;
                }
                None => {
                    self.kept.clear();
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sizes(pieces: &'static [&'static str]) -> Vec<(u16, u16)> {
        let (mut client, server) = tokio::io::duplex(4096);
        let writer = tokio::spawn(async move {
            for piece in pieces {
                tokio::io::AsyncWriteExt::write_all(&mut client, piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut sizes = Sizes::new(Some(Box::new(server)));
        let mut found = Vec::new();
        while let Ok(size) = tokio::time::timeout(Duration::from_secs(5), sizes.next()).await {
            found.push((size.columns, size.rows));
        }
        writer.await.unwrap();
        found
    }

    #[tokio::test(start_paused = true)]
    async fn sizes_come_one_after_the_other() {
        let text = &["{\"Width\":80,\"Height\":24}\n{\"Width\":", "100,\"Height\":30}"];
        assert_eq!(sizes(text).await, [(80, 24), (100, 30)]);
    }

    #[tokio::test(start_paused = true)]
    async fn names_may_be_in_lower_case_and_there_may_be_more() {
        assert_eq!(sizes(&["{\"height\":24,\"x\":[1],\"width\":80}"]).await, [(80, 24)]);
    }

    #[tokio::test(start_paused = true)]
    async fn sizes_without_lines_or_columns_are_passed_over() {
        let text =
            &["{\"Width\":0,\"Height\":24}{\"Width\":8,\"Height\":0}{\"Width\":1,\"Height\":2}"];
        assert_eq!(sizes(text).await, [(1, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_size_is_passed_over() {
        let text = &["nonsense", "{\"Width\":70000,\"Height\":1}", "{\"Width\":3,\"Height\":4}"];
        assert_eq!(sizes(text).await.last(), Some(&(3, 4)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_not_kept() {
        let mut sizes = Sizes::new(None);
        sizes.kept = format!("{{\"Width\":{}", " ".repeat(LONGEST)).into_bytes();
        assert_eq!(sizes.take(), None);
        assert!(sizes.kept.is_empty());
    }
}
