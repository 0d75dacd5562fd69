//! U1 to U6, U10, U12: upstreams that are silent, slow, wrong or unwilling.
