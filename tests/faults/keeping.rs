//! U7 to U9, U11, U13: what is kept of upstreams, and for how long.
