//! text → directives → Corefile.
