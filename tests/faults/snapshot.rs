//! A1, A2, P7, P8, P10, P11: starts with and without a Snapshot.
