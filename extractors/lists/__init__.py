"""Look-ups of events, exports and evaluations, and contents of exports."""
