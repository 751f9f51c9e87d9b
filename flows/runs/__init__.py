"""One run, from settings to its report and the history."""
