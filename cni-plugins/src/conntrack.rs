//! Forgetting connections that a published port no longer leads where they go. Only UDP and SCTP need it: a packet of a
//! connection that is known never sees the rules, so it would go to the former container for as long as it keeps coming.

use std::net::IpAddr;

use cringle_kernel::netlink::{Attribute, Message, NetlinkError, attributes};
use rustix::io::Errno;

use crate::nft::Nft;

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const HEADER_LENGTH: usize = 4;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_SOURCE4: u16 = 1;
const IP_SOURCE6: u16 = 3;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_PORT: u16 = 3;
const NESTED: u16 = 0x8000;

/// A connection that came in by a port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) protocol: u8,
    /// The port that the first packet was sent to.
    pub(crate) port: u16,
    /// Whoever answers.
    pub(crate) answering: IpAddr,
}

/// Whether connections of that protocol outlive what they lead to.
pub(crate) fn is_sticky(protocol: u8) -> bool {
    matches!(protocol, 17 | 132)
}

/// Forgets the connections that are meant; none if the kernel keeps no account of any.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn forget(
    nft: &mut Nft,
    is_meant: impl Fn(&Connection) -> bool,
) -> Result<(), NetlinkError> {
    let socket = nft.socket();
    let mut doomed = Vec::new();
    for family in [2, 10] {
        let answers = match socket.dump(&Message::new(GET, 0, &[family, 0, 0, 0])) {
            Err(error) if is_absent(&error) => return Ok(()),
            answers => answers?,
        };
        for answer in answers {
            let found = attributes(answer.payload.get(HEADER_LENGTH..).unwrap_or_default());
            let Some(tuple) = found.clone().of(TUPLE_ORIGINAL) else { continue };
            if !found
                .clone()
                .of(TUPLE_REPLY)
                .and_then(|reply| connection(&tuple, &reply))
                .is_some_and(|c| is_meant(&c))
            {
                continue;
            }
            let mut message = Message::new(DELETE, 0, &[family, 0, 0, 0]);
            message.bytes(TUPLE_ORIGINAL | NESTED, tuple.value);
            for kind in [ZONE, ID] {
                if let Some(attribute) = found.clone().of(kind) {
                    message.bytes(kind, attribute.value);
                }
            }
            doomed.push(message);
        }
    }
    for outcome in socket.apply_each(&doomed)? {
        match outcome {
            Err(error) if error.errno() != Some(Errno::NOENT.raw_os_error()) => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn connection(original: &Attribute<'_>, reply: &Attribute<'_>) -> Option<Connection> {
    let protocol = original.attributes().of(TUPLE_PROTOCOL)?;
    let number = protocol.attributes().of(PROTOCOL_NUMBER)?;
    let port = protocol.attributes().of(PROTOCOL_PORT)?;
    let ip = reply.attributes().of(TUPLE_IP)?;
    let source = ip.attributes().of(IP_SOURCE4).or_else(|| ip.attributes().of(IP_SOURCE6))?;
    let answering = <[u8; 4]>::try_from(source.value)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(source.value).map(IpAddr::from))
        .ok()?;
    Some(Connection {
        protocol: *number.value.first()?,
        port: u16::from_be_bytes(*port.value.first_chunk()?),
        answering,
    })
}

fn is_absent(error: &NetlinkError) -> bool {
    let errno = error.errno().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOENT))
}
