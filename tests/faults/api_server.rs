//! A3 to A11: the API server is away, lies or stalls.
