//! Traffic counters of the network interfaces of one namespace.
//!
//! Why not netlink: a dump of links takes the lock that changes to links hold for tens of milliseconds, while this file is
//! written by the kernel without it.

use crate::error::{Result, SystemError};

/// The calling thread's namespace, wherever the process' first thread is.
const TABLE: &str = "/proc/thread-self/net/dev";

/// What went through one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What came in.
    pub received: Direction,
    /// What went out.
    pub sent: Direction,
}

/// Counters of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Direction {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were bad.
    pub errors: u64,
    /// Packets that were thrown away.
    pub dropped: u64,
}

/// The interfaces of the network namespace that the calling thread is in, without loopback.
///
/// # Errors
/// `/proc` is not there.
pub fn interfaces() -> Result<Vec<Interface>> {
    let text = std::fs::read_to_string(TABLE);
    let text = text.map_err(|source| SystemError::new("read", TABLE, source))?;
    Ok(text.lines().filter_map(parse).filter(|interface| interface.name != "lo").collect())
}

/// A line `  eth0: 1 2 …`: eight counters of what came in, eight of what went out. The two lines of headings have no
/// numbers.
fn parse(line: &str) -> Option<Interface> {
    // A name may hold a colon, the counters don't.
    let (name, counters) = line.rsplit_once(':')?;
    let counters: Vec<u64> =
        counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let direction = |first: usize| match *counters.get(first..first + 4)? {
        [bytes, packets, errors, dropped] => Some(Direction { bytes, packets, errors, dropped }),
        _ => None,
    };
    let name = name.trim().to_owned();
    Some(Interface { name, received: direction(0)?, sent: direction(8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_passed_over_and_counters_are_read_by_place() {
        let table = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0
eth0:1: 9 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0
";
        let found: Vec<Interface> = table.lines().filter_map(parse).collect();
        let received = Direction { bytes: 1, packets: 2, errors: 3, dropped: 4 };
        let sent = Direction { bytes: 5, packets: 6, errors: 7, dropped: 8 };
        assert_eq!(found[0], Interface { name: "eth0".to_owned(), received, sent });
        assert_eq!(
            (found.len(), found[1].name.as_str(), found[1].received.bytes),
            (2, "eth0:1", 9)
        );
    }

    #[test]
    fn the_own_namespace_has_a_table() {
        assert!(interfaces().unwrap().iter().all(|interface| interface.name != "lo"));
    }
}
