//! Logs on standard output.
//!
//! No timestamps: Kubernetes adds them, and `kubectl logs --timestamps` shows them.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// Starts logging; a second call changes nothing.
///
/// `level` is the value of `PURELB_LOG_LEVEL`: `debug`, or anything else for what an operator should
/// know. Libraries are heard only if something is wrong.
pub fn start(level: &str, format: Format) {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stdout).with_target(false);
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).without_time().boxed(),
        Format::Text => lines.with_ansi(io::stdout().is_terminal()).without_time().boxed(),
    };
    let ours = ["purelb", "purelb_cli", "purelb_core", "purelb_k8s", "purelb_netlink"];
    let targets = Targets::new()
        .with_default(Level::ERROR)
        .with_targets(ours.map(|target| (target, chosen(level))));
    // Fails only where logging was started before, which is as good.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
}

fn chosen(level: &str) -> Level {
    if level.trim().eq_ignore_ascii_case("debug") { Level::DEBUG } else { Level::INFO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debug_means_debug() {
        for (text, level) in [
            ("debug", Level::DEBUG),
            ("DEBUG", Level::DEBUG),
            (" debug ", Level::DEBUG),
            ("info", Level::INFO),
            ("", Level::INFO),
            ("trace", Level::INFO),
            ("nonsense", Level::INFO),
        ] {
            assert_eq!(chosen(text), level, "{text:?}");
        }
    }
}
