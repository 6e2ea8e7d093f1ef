//! The wish to end the lab early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A flag that Ctrl-C raises and every wait of the lab looks at.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Raises the flag, for good.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Waits for the flag, or until `other` has something.
    pub fn wait_or<T>(&self, mut other: impl FnMut() -> Option<T>) -> Option<T> {
        while !self.is_requested() {
            if let Some(found) = other() {
                return Some(found);
            }
            thread::sleep(Duration::from_millis(50));
        }
        None
    }

    /// Whether the flag is up.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
