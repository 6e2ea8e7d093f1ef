//! A real API server: that it can be had, and what it makes of our definitions.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod server;
