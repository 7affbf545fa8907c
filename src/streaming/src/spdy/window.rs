//! Windows, and what a peer can make of them. Why, is told in [`super`].

/// What a window starts with, for each stream and for the connection.
pub(super) const INITIAL: i64 = 64 << 10;
/// What a window is enlarged to for a peer of which nothing is known.
pub(super) const OPEN: u32 = 1 << 30;
/// Consumed bytes are given back in portions of this size, and of that from an open window.
const PORTION: u32 = 32 << 10;
const OPEN_PORTION: u32 = 1 << 29;
/// No window may grow beyond this.
const LARGEST: i64 = (1 << 31) - 1;

/// Whether windows hold us back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// Nothing is known of the peer yet: they do, until there is a reason to ask.
    Unknown,
    /// They do: it has shown that it knows of them.
    Bound,
    /// They don't: it will never enlarge one.
    Unbound,
}

/// What the peer is told of our windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    /// Nothing yet.
    Unknown,
    /// What was consumed: it keeps to them.
    Exact,
    /// That there is room for very much: it may keep to them.
    Open,
    /// Nothing: it doesn't keep to them.
    Ignored,
}

/// What we may send: below zero if the peer has lowered it.
#[derive(Debug)]
pub(super) struct SendWindow(i64);

impl SendWindow {
    pub(super) fn new(size: i64) -> Self {
        Self(size)
    }

    /// Bytes that may go now.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// False if it would be larger than a window can be.
    #[must_use]
    pub(super) fn grow(&mut self, delta: i64) -> bool {
        self.0 = self.0.saturating_add(delta);
        self.0 <= LARGEST
    }
}

/// What the peer may send, and how much of what it has sent was consumed and not yet given back.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    left: i64,
    owed: u32,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        Self { left: INITIAL, owed: 0 }
    }
}

impl ReceiveWindow {
    /// Notes what came in. False if it is more than the peer was given.
    #[must_use]
    pub(super) fn receive(&mut self, bytes: usize) -> bool {
        self.left = self.left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.left >= 0
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.owed = self.owed.saturating_add(bytes).min(u32::MAX >> 1);
    }

    /// Whether it is worth a frame to give back what is owed.
    pub(super) fn is_due(&self, receiving: Receiving) -> bool {
        match receiving {
            Receiving::Unknown | Receiving::Exact => self.owed >= PORTION,
            Receiving::Open => self.owed >= OPEN_PORTION,
            Receiving::Ignored => false,
        }
    }

    /// What the peer is given back.
    pub(super) fn grant(&mut self) -> u32 {
        let owed = std::mem::take(&mut self.owed);
        self.left = self.left.saturating_add(i64::from(owed));
        owed
    }
}

#[cfg(test)]
mod tests {
    use super::{INITIAL, ReceiveWindow, Receiving, SendWindow};

    #[test]
    fn a_send_window_may_be_lowered_below_what_is_on_its_way() {
        let mut window = SendWindow::new(INITIAL);
        window.spend(60_000);
        assert!(window.grow(1_000 - INITIAL), "it has become smaller");
        assert_eq!(window.room(), 0);
        assert!(window.grow(59_001), "it has become larger");
        assert_eq!(window.room(), 1);
        assert!(!window.grow((1 << 31) - 1), "a window has 31 bits");
    }

    #[test]
    fn a_receive_window_gives_back_what_was_consumed_and_no_more() {
        let mut window = ReceiveWindow::default();
        assert!(window.receive(65_536), "all of it may be used");
        window.consume(32_767);
        assert!(!window.is_due(Receiving::Exact), "a frame for few bytes is not worth it");
        window.consume(1);
        assert!(window.is_due(Receiving::Exact));
        assert!(!window.is_due(Receiving::Open) && !window.is_due(Receiving::Ignored));
        assert_eq!(window.grant(), 32_768);
        assert!(window.receive(32_768), "what was given back may be used");
        assert!(!window.receive(1), "and no more");
    }
}
