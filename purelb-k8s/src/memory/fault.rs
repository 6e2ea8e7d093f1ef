//! Faults that a test asks for.

use std::net::SocketAddr;
use std::time::Duration;

/// A request as a fault rule sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who asks.
    pub client: SocketAddr,
    /// What for: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// The path without the query, `/api/v1/namespaces/default/services/web/status`.
    pub path: String,
}

/// What goes wrong with a request.
///
/// A rule is asked once for a request, before it is carried out. For a watch it is asked again
/// before each delivery: `Delay` then holds the delivery back, and any other fault ends the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out so much later, even if the client has given up by then: a write that
    /// lands late.
    Delay(Duration),
    /// It is answered with this HTTP status, and not carried out.
    Refuse(u16),
    /// The connection is closed, and it is not carried out.
    Drop,
    /// It is carried out, and the connection is closed instead of an answer.
    LoseAnswer,
}
