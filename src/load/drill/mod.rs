//! Drills: runs as files, with servers that are started for them, faults and their tables.
