//! Requests that wait for their client: each is reached once, by a secret of 128 bits, within a minute.
//!
//! What waits is bounded in number and in bytes, so that a caller which never comes for its URLs costs nothing that grows.

use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a request waits.
const LIFETIME: Duration = Duration::from_secs(60);

/// What all waiting requests together may hold; a command line is at most 2 MiB long for the kernel.
const BYTES: usize = 16 << 20;

/// Why a request cannot wait.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// As many wait as may.
    #[error("failed to keep a streaming request: {waiting} wait for their clients already")]
    Full {
        /// How many there are.
        waiting: usize,
    },
    /// The system gives no random bytes.
    #[error("failed to make a token")]
    Random(#[source] std::io::Error),
}

/// The requests that wait.
pub(crate) struct Tokens<R> {
    limit: usize,
    /// Oldest first, for all wait equally long.
    waiting: Mutex<VecDeque<Waiting<R>>>,
}

struct Waiting<R> {
    token: Token,
    until: Instant,
    bytes: usize,
    request: R,
}

impl<R> fmt::Debug for Tokens<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokens").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<R> Tokens<R> {
    /// Room for so many requests.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, waiting: Mutex::default() }
    }

    /// Keeps a request of about so many bytes, and gives the secret that reaches it.
    ///
    /// # Errors
    /// If too much waits, or there is no randomness.
    pub(crate) fn put(&self, request: R, bytes: usize) -> Result<String, TokenError> {
        let token = Token::random()?;
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        forget_expired(&mut waiting, now);
        let held: usize = waiting.iter().map(|entry| entry.bytes).sum();
        if waiting.len() >= self.limit || held.saturating_add(bytes) > BYTES {
            return Err(TokenError::Full { waiting: waiting.len() });
        }
        let text = token.text();
        waiting.push_back(Waiting { token, until: now + LIFETIME, bytes, request });
        Ok(text)
    }

    /// Takes the request of a token out: a second time there is none.
    pub(crate) fn take(&self, text: &str) -> Option<R> {
        let token = Token::parse(text)?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        forget_expired(&mut waiting, Instant::now());
        let place = waiting.iter().position(|entry| entry.token == token)?;
        waiting.remove(place).map(|entry| entry.request)
    }
}

fn forget_expired<R>(waiting: &mut VecDeque<Waiting<R>>, now: Instant) {
    while waiting.front().is_some_and(|entry| entry.until <= now) {
        waiting.pop_front();
    }
}

/// A secret. It is neither shown nor logged.
#[derive(Clone, Copy)]
struct Token([u8; 16]);

/// All bytes are looked at, so that the time says nothing about how many were right.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |differing, (left, right)| differing | (left ^ right))
            == 0
    }
}

impl Token {
    fn random() -> Result<Self, TokenError> {
        let mut bytes = [0; 16];
        // Reads of up to 256 bytes are never short.
        let got = getrandom(&mut bytes, GetRandomFlags::empty())
            .map_err(|errno| TokenError::Random(errno.into()))?;
        if got == bytes.len() {
            Ok(Self(bytes))
        } else {
            Err(TokenError::Random(std::io::ErrorKind::UnexpectedEof.into()))
        }
    }

    fn text(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    fn parse(text: &str) -> Option<Self> {
        let legal = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.as_bytes().iter().all(legal) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_once() {
        let tokens = Tokens::new(2);
        let token = tokens.put("exec", 1).unwrap();
        assert_eq!(token.len(), 32);
        assert_eq!(tokens.take(&token), Some("exec"));
        assert_eq!(tokens.take(&token), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_token_takes_nothing() {
        let tokens = Tokens::new(2);
        let token = tokens.put("exec", 1).unwrap();
        let shortened = &token[..31];
        let longer = format!("{token}0");
        let signed = format!("+{}", &token[1..]);
        let upper = format!("A{}", &token[1..]);
        for wrong in ["", shortened, &longer, &signed, &upper, "ü0123456789abcdef0123456789abcde"]
        {
            assert_eq!(tokens.take(wrong), None, "{wrong}");
        }
        assert_eq!(tokens.take(&token), Some("exec"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_a_minute() {
        let tokens = Tokens::new(2);
        let early = tokens.put("early", 1).unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        let late = tokens.put("late", 1).unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(tokens.take(&early), None);
        assert_eq!(tokens.take(&late), Some("late"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_until_some_are_taken_or_expire() {
        let tokens = Tokens::new(2);
        let first = tokens.put(1, 1).unwrap();
        tokens.put(2, 1).unwrap();
        assert!(matches!(tokens.put(3, 1), Err(TokenError::Full { waiting: 2 })));
        tokens.take(&first).unwrap();
        tokens.put(3, 1).unwrap();
        tokens.put(4, 1).unwrap_err();
        tokio::time::advance(LIFETIME).await;
        tokens.put(4, 1).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn large_requests_do_not_pile_up() {
        let tokens = Tokens::new(1000);
        tokens.put((), BYTES).unwrap();
        tokens.put((), 1).unwrap_err();
        tokens.put((), usize::MAX).unwrap_err();
    }

    #[test]
    fn tokens_differ() {
        let tokens = Tokens::new(2);
        assert_ne!(tokens.put((), 0).unwrap(), tokens.put((), 0).unwrap());
    }
}
