//! The parameters of a request's URL.

use super::refusal::{self, Refusal};
use super::write::{Terms, UnknownFields};

/// Decoded `name=value` pairs.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decode = |text: &str| decode(&text.replace('+', " "));
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// The value of a parameter, empty if it is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// All values of a parameter that may be given several times.
    pub(super) fn texts<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.text(name), "true" | "1")
    }

    /// A number, none if the parameter is missing.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                refusal::bad_request(format!("invalid {name}: {text:?} is not a number"))
            }),
        }
    }

    /// How to write; the user agent names the manager if the parameter does not.
    pub(super) fn terms(&self, user_agent: &str) -> Terms {
        let manager = match self.text("fieldManager") {
            "" => user_agent.split('/').next().filter(|name| !name.is_empty()).unwrap_or("unknown"),
            manager => manager,
        };
        Terms {
            manager: manager.to_owned(),
            force: self.is_set("force"),
            dry_run: self.text("dryRun") == "All",
            unknown_fields: match self.text("fieldValidation") {
                "Strict" => UnknownFields::Refuse,
                "Ignore" => UnknownFields::Ignore,
                _ => UnknownFields::Warn,
            },
        }
    }
}

/// Undoes percent-encoding; what is not valid stays as it is.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|d| char::from(*d).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=true&limit=5&x=1+2%zz");
        assert_eq!(query.text("labelSelector"), "a=b,c");
        assert!(query.is_set("watch"));
        assert_eq!(query.number("limit").ok(), Some(Some(5)));
        assert_eq!(query.text("x"), "1 2%zz");
        assert_eq!(query.text("missing"), "");
        assert!(query.number("x").is_err());
    }
}
