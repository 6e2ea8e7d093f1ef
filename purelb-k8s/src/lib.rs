//! PureLB's Kubernetes adapter: API objects as facts and actions of `purelb-core`.

pub mod api;
