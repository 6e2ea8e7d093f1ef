//! The lines of a recording.
//!
//! A recording is JSON, one [`Line`] to a line: a header, perhaps a checkpoint, then inputs and what they led
//! to, and an end. It may be compressed with gzip, as a whole or in pieces one after the other.

use std::fmt::{self, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The number of this format. Another number is another format.
pub const FORMAT: u32 = 1;

/// The first line: what was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Which program.
    pub program: Program,
    /// Its version, as `--version` says it.
    pub version: String,
    /// Whose: the node of an agent, the pod of an allocator.
    pub name: String,
    /// When the clock of the recording stood at zero, in nanoseconds since 1970, by the clock of the host when
    /// the recording was given out.
    pub began: u64,
    /// What the machine was made with.
    pub settings: serde_json::Value,
}

impl Header {
    /// The moment by the clock of the host that gave the recording out, `at` being counted from the
    /// recording's zero.
    pub fn moment(&self, at: Duration) -> Timestamp {
        let nanos = i128::from(self.began).saturating_add_unsigned(at.as_nanos());
        Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::MAX)
    }
}

/// A program that records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// Gives Services their addresses.
    Allocator,
    /// Puts them on the interfaces of a node.
    Lbnodeagent,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allocator => "allocator",
            Self::Lbnodeagent => "lbnodeagent",
        })
    }
}

/// One line of a recording. Moments are nanoseconds since the recording's zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line<E> {
    /// All inputs up to here were taken in, and all that the machine asked for was handed out.
    Actions(Actions),
    /// The machine as it was, where the recording does not begin with its start.
    Checkpoint(Checkpoint),
    /// The last line.
    End {
        /// How many inputs the machine has had since it started, as of the end.
        inputs: u64,
    },
    /// The machine was told something.
    Event {
        /// When.
        t: u64,
        /// What.
        event: E,
    },
    /// The first line.
    Header(Header),
    /// The machine was told that time has passed.
    Timeout {
        /// When.
        t: u64,
    },
}

/// What the machine asked for since the last such line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actions {
    /// How many actions.
    pub count: u64,
    /// The hash of all actions since the start of the machine.
    pub hash: Hash,
}

/// A machine as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// How many inputs it had had.
    pub inputs: u64,
    /// The hash of the actions that it had asked for.
    pub hash: Hash,
    /// Its state: postcard, then gzip, then base64.
    pub state: Base64,
}

/// Bytes as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A running hash (FNV-1a, 64 bits) of what actions look like when they are printed for debugging. It tells
/// whether two machines of one version asked for the same things in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Takes in one more action.
    pub fn add(&mut self, action: &impl fmt::Debug) {
        // Writing into a hash does not fail.
        let _ = writeln!(self, "{action:?}");
    }
}

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}
