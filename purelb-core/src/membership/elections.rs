//! Whose an address is, for one who asks again and again.

use std::net::IpAddr;

use crate::election::{self, Winners};

use super::{Membership, Standing};

/// The elections in one agent's view, held again at the cost of what changed since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Elections {
    winners: Winners,
    /// The edition of the view that they were last held in.
    edition: Option<u64>,
}

impl Elections {
    /// Nobody will ask for this one again.
    pub(crate) fn forget(&mut self, ip: IpAddr) {
        self.winners.forget(ip);
    }
}

impl Membership {
    /// What [`standing`](Self::standing) answers; `before` are the elections of this very view.
    pub(crate) fn standing_by(
        &self,
        ip: IpAddr,
        narrowed: bool,
        before: &mut Elections,
    ) -> Standing {
        if before.edition != Some(self.edition.0) {
            before.edition = Some(self.edition.0);
            before.winners.stand(self.live());
        }
        let (winner, is_listed) = before.winners.winner(ip, narrowed).unzip();
        debug_assert_eq!(winner, {
            let (candidates, _) = election::electorate(ip, narrowed, self.live());
            election::winner(ip, candidates)
        });
        self.standing_if(winner, ip, is_listed.unwrap_or_default())
    }

    /// Something has changed of what is [live](Self::live).
    pub(super) fn electors_changed(&mut self) {
        self.edition.0 += 1;
    }
}
