//! P1, P2, P4, P5, P9, P12, P16: kills, ends, upgrades, reloads, hangs.
