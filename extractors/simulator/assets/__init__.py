"""The simulated exports and evaluations, and the store of contents."""
