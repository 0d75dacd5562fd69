//! A12 to A17: what the cluster does itself, however fast and in whatever order.
