"""A PostHog small enough for a laptop; users import it from server.py. Shares no code with the client."""
