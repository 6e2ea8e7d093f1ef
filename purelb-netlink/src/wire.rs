//! The framing of netlink: messages in a datagram, attributes in a message.

use netlink_packet_core::{NetlinkBuffer, NlasIterator};

/// Bytes that do not follow the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed netlink data: {what}")]
pub struct Malformed {
    what: &'static str,
}

impl Malformed {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

/// One message of a datagram, its body not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawMessage<'a> {
    /// The message type (`nlmsg_type`), such as `RTM_NEWADDR`.
    pub kind: u16,
    /// `NLM_F_*`
    pub flags: u16,
    /// The number of the request that it answers, or of the one that caused the change.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// Splits a datagram into its messages. After an error nothing follows.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<RawMessage<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            rest = &[];
            return Some(Err(Malformed::new("a message is longer than its datagram")));
        };
        let raw = RawMessage {
            kind: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            body: message.payload(),
        };
        // Messages start at multiples of four bytes; the padding of the last one may be missing.
        let length = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        Some(Ok(raw))
    })
}

/// Calls `take` with the kind and the value of each attribute in `bytes`. The bits of the kind that
/// say "nested" and "big-endian" are masked out.
pub(crate) fn for_each_attribute(
    bytes: &[u8],
    mut take: impl FnMut(u16, &[u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for attribute in NlasIterator::new(bytes) {
        let attribute =
            attribute.map_err(|_| Malformed::new("an attribute is longer than its message"))?;
        take(attribute.kind(), attribute.value())?;
    }
    Ok(())
}

/// The first `N` bytes of `value`.
pub(crate) fn bytes<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    bytes_at(value, 0)
}

/// `N` bytes of `value` from `offset` on.
pub(crate) fn bytes_at<const N: usize>(value: &[u8], offset: usize) -> Result<[u8; N], Malformed> {
    value
        .get(offset..offset + N)
        .and_then(|part| part.try_into().ok())
        .ok_or(Malformed::new("a field ends early"))
}

/// A number of four bytes at the start of `value`, in the host's byte order.
pub(crate) fn number(value: &[u8]) -> Result<u32, Malformed> {
    bytes(value).map(u32::from_ne_bytes)
}

/// Text up to the first zero byte. What is not UTF-8 in it is replaced.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(length: u32, kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn messages_start_at_multiples_of_four_bytes() {
        let mut datagram = framed(17, 20, &[7, 0, 0, 0]);
        datagram.extend(framed(18, 21, &[8, 9]));
        let all = messages(&datagram).map(|message| message.map(|m| (m.kind, m.body)));
        let all: Result<Vec<_>, _> = all.collect();
        assert_eq!(all, Ok(vec![(20, &[7][..]), (21, &[8, 9][..])]));
    }

    #[test]
    fn a_message_that_ends_early_is_an_error_and_the_last_thing_seen() {
        let mut datagram = framed(16, 20, &[]);
        datagram.extend(framed(40, 21, &[]));
        let all: Vec<_> = messages(&datagram).map(|message| message.is_ok()).collect();
        assert_eq!(all, [true, false]);
    }

    #[test]
    fn a_length_below_the_header_is_an_error_not_an_endless_loop() {
        assert_eq!(messages(&framed(0, 20, &[])).count(), 1);
    }

    #[test]
    fn an_attribute_that_ends_early_is_an_error() {
        let found = for_each_attribute(&[9, 0, 1, 0, 1], |_, _| Ok(()));
        assert!(found.is_err());
    }

    #[test]
    fn text_ends_at_the_first_zero_byte() {
        assert_eq!(text(b"eth0\0\0"), "eth0");
        assert_eq!(text(b"eth0"), "eth0");
    }
}
