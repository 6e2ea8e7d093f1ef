//! The in-memory API as its clients see it: kube-rs over a TCP socket, and `kubectl`.
//!
//! With `PURELB_TEST_KUBECONFIG` naming a kubeconfig, the tests that are about Kubernetes and not
//! about this API alone run against that cluster instead, which keeps them honest. It should be a
//! control plane without controllers and with our definitions installed.

mod applying;
mod cluster;
mod faults;
mod kubectl;
mod objects;
mod watches;
