//! Telling people how this node's lease stands.

use crate::config::OnStop;

use super::NodeAgent;
use super::notice::NodeNotice;

/// What people were last told.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contact {
    is_contested: bool,
    standing: Standing,
}

/// Whether this node may hold local addresses, as far as its lease goes.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Its lease is confirmed.
    Confirmed,
    /// It lost the right.
    Fenced,
    /// Its lease is not confirmed, but it keeps what it has.
    HoldingOn,
    /// It never had the right.
    #[default]
    Starting,
}

impl NodeAgent {
    /// Tells people when this node's lease stands otherwise than before.
    pub(super) fn tell_contact(&mut self) {
        let is_contested = self.membership.is_contested();
        if is_contested && !self.contact.is_contested {
            self.tell(NodeNotice::Contested { node: self.me.clone() });
        }
        self.contact.is_contested = is_contested;

        let before = self.contact.standing;
        let standing = match (self.right(), before) {
            (Some(_), _) if self.membership.is_holding_on() => Standing::HoldingOn,
            (Some(_), _) => Standing::Confirmed,
            (None, Standing::Starting) => Standing::Starting,
            (None, Standing::Confirmed | Standing::Fenced | Standing::HoldingOn) => {
                Standing::Fenced
            }
        };
        self.contact.standing = standing;
        let node = self.me.clone();
        match (before, standing) {
            (Standing::Confirmed | Standing::HoldingOn, Standing::Fenced)
                if self.stopping != Some(OnStop::Release) =>
            {
                self.tell(NodeNotice::Fenced { node });
            }
            (Standing::Confirmed, Standing::HoldingOn) => self.tell(NodeNotice::HoldingOn { node }),
            (Standing::Fenced | Standing::HoldingOn, Standing::Confirmed) => {
                self.tell(NodeNotice::Confirmed { node });
            }
            (Standing::Starting, _)
            | (_, Standing::Starting)
            | (Standing::Confirmed, Standing::Confirmed)
            | (Standing::Confirmed | Standing::HoldingOn, Standing::Fenced)
            | (Standing::Fenced, Standing::Fenced | Standing::HoldingOn)
            | (Standing::HoldingOn, Standing::HoldingOn) => {}
        }
    }
}
