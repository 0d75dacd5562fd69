//! Where a run takes place: a command line, a Job, an Indexed Job, a canary that runs for ever.
