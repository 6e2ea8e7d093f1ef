//! Why a request to the Kubernetes API did not do what was asked.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

/// Why a request to the Kubernetes API did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The API server answered that it will not.
    #[error("the API server answered {code}: {message}")]
    Refused {
        /// The HTTP status code.
        code: u16,
        /// `reason` of its Status, such as `Conflict` or `AlreadyExists`.
        reason: String,
        /// Its words.
        message: String,
    },
    /// There was no answer in time; the request may still have taken effect.
    #[error("no answer from the API server within {0:?}")]
    TimedOut(Duration),
    /// The request did not get there, or the answer not back.
    #[error("cannot reach the API server: {text}")]
    Transport {
        /// What happened.
        text: String,
    },
    /// The answer is not what it should be.
    #[error("the API server's answer makes no sense: {text}")]
    Unreadable {
        /// What is wrong with it.
        text: String,
    },
}

impl ApiError {
    /// The HTTP status code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::TimedOut(_) | Self::Transport { .. } | Self::Unreadable { .. } => None,
        }
    }

    /// Whether what was asked was conditional on something that is no longer so.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the version asked for is no longer known.
    pub fn is_gone(&self) -> bool {
        self.code() == Some(410)
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether asking the same again may be answered otherwise without anything else changing: not
    /// for a malformed request, a missing right, a missing object or a conflict.
    pub fn is_temporary(&self) -> bool {
        self.code().is_none_or(|code| matches!(code, 408 | 429 | 500..))
    }
}

impl From<kube::core::Status> for ApiError {
    fn from(status: kube::core::Status) -> Self {
        Self::Refused { code: status.code, reason: status.reason, message: status.message }
    }
}

impl From<kube::Error> for ApiError {
    #[allow(clippy::wildcard_enum_match_arm, reason = "not our enum; new variants are transport's")]
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => (*status).into(),
            kube::Error::SerdeError(error) => error.into(),
            other => Self::Transport { text: chain(&other) },
        }
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable { text: error.to_string() }
    }
}

impl From<kube::core::request::Error> for ApiError {
    fn from(error: kube::core::request::Error) -> Self {
        Self::Transport { text: chain(&error) }
    }
}

impl From<http::Error> for ApiError {
    fn from(error: http::Error) -> Self {
        Self::Transport { text: chain(&error) }
    }
}

/// An error and its causes in one line, without those that only repeat what was said.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}
