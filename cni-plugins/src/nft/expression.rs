//! The steps of a rule, as the kernel's small machine takes them: load something into registers, compare it, look it up,
//! act. Registers have four bytes here, numbered from zero.

use cringle_kernel::netlink::Message;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const VERDICT_REGISTER: u32 = 0;
const FIRST_REGISTER: u32 = 8;

pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_OIFNAME: u32 = 7;
pub(super) const META_PROTOCOL_FAMILY: u32 = 15;
pub(super) const META_TRANSPORT: u32 = 16;

/// Which header of the packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layer {
    Network,
    Transport,
}

/// How two values must compare for the rule to go on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
}

/// The steps of one rule, written into its message.
#[derive(Debug)]
pub(super) struct Steps<'a>(pub(super) &'a mut Message);

fn register(number: u32) -> u32 {
    FIRST_REGISTER + number
}

impl Steps<'_> {
    fn step(&mut self, name: &str, fill: impl FnOnce(&mut Message)) -> &mut Self {
        self.0.nested(LIST_ELEMENT, |step| {
            step.text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, fill);
        });
        self
    }

    /// Loads a property of the packet.
    pub(super) fn meta(&mut self, key: u32, to: u32) -> &mut Self {
        self.step("meta", |data| {
            data.network_number(1, register(to)).network_number(2, key);
        })
    }

    /// Loads bytes of the packet.
    pub(super) fn payload(
        &mut self,
        layer: Layer,
        (offset, length): (u32, u32),
        to: u32,
    ) -> &mut Self {
        let base = match layer {
            Layer::Network => 1,
            Layer::Transport => 2,
        };
        self.step("payload", |data| {
            data.network_number(1, register(to)).network_number(2, base);
            data.network_number(3, offset).network_number(4, length);
        })
    }

    /// Goes on only if the register compares so.
    pub(super) fn compare(&mut self, from: u32, comparison: Comparison, value: &[u8]) -> &mut Self {
        let operator = match comparison {
            Comparison::Equal => 0,
            Comparison::NotEqual => 1,
        };
        self.step("cmp", |data| {
            data.network_number(1, register(from)).network_number(2, operator);
            data.nested(3, |inner| {
                inner.bytes(DATA_VALUE, value);
            });
        })
    }

    /// Keeps only some bits of a register.
    pub(super) fn mask(&mut self, at: u32, mask: &[u8; 4]) -> &mut Self {
        self.step("bitwise", |data| {
            data.network_number(1, register(at))
                .network_number(2, register(at))
                .network_number(3, 4);
            for (kind, value) in [(4, mask), (5, &[0; 4])] {
                data.nested(kind, |inner| {
                    inner.bytes(DATA_VALUE, value);
                });
            }
        })
    }

    /// Goes on only if the registers hold an element of the set.
    pub(super) fn is_in(&mut self, set: &str, from: u32) -> &mut Self {
        self.step("lookup", |data| {
            data.text(1, set).network_number(2, register(from));
        })
    }

    /// Goes on only if they don't.
    pub(super) fn is_not_in(&mut self, set: &str, from: u32) -> &mut Self {
        self.step("lookup", |data| {
            data.text(1, set).network_number(2, register(from)).network_number(5, 1);
        })
    }

    /// Goes on with what the map has for the registers, if it has something.
    pub(super) fn map(&mut self, set: &str, from: u32, to: u32) -> &mut Self {
        self.step("lookup", |data| {
            data.text(1, set).network_number(2, register(from)).network_number(3, register(to));
        })
    }

    /// Goes on only if the packet is for this host.
    pub(super) fn is_for_this_host(&mut self) -> &mut Self {
        const RESULT_ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        self.step("fib", |data| {
            data.network_number(1, register(0))
                .network_number(2, RESULT_ADDRESS_TYPE)
                .network_number(3, OF_DESTINATION);
        });
        self.compare(0, Comparison::Equal, &LOCAL.to_ne_bytes())
    }

    /// Goes on only if the connection's destination was rewritten.
    pub(super) fn is_redirected(&mut self) -> &mut Self {
        const CT_STATUS: u32 = 2;
        const DESTINATION_REWRITTEN: u32 = 1 << 5;
        self.step("ct", |data| {
            data.network_number(1, register(0)).network_number(2, CT_STATUS);
        });
        self.mask(0, &DESTINATION_REWRITTEN.to_ne_bytes());
        self.compare(0, Comparison::NotEqual, &[0; 4])
    }

    /// Rewrites the destination to an address and a port in registers, and ends.
    pub(super) fn redirect(&mut self, family: u8, address: u32, port: u32) -> &mut Self {
        self.step("nat", |data| {
            data.network_number(1, 1).network_number(2, u32::from(family));
            data.network_number(3, register(address)).network_number(5, register(port));
        })
    }

    /// Rewrites the source to the address of the link that the packet leaves by, and ends.
    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.step("masq", |_| {})
    }

    /// Drops the packet.
    pub(super) fn drop(&mut self) -> &mut Self {
        self.verdict(0, None)
    }

    /// Goes on in another chain, and comes back.
    pub(super) fn jump(&mut self, chain: &str) -> &mut Self {
        self.verdict(-3, Some(chain))
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) -> &mut Self {
        self.step("immediate", |data| {
            data.network_number(1, VERDICT_REGISTER).nested(2, |inner| {
                inner.nested(DATA_VERDICT, |verdict| {
                    verdict.bytes(VERDICT_CODE, &code.to_be_bytes());
                    if let Some(chain) = chain {
                        verdict.text(VERDICT_CHAIN, chain);
                    }
                });
            });
        })
    }
}
