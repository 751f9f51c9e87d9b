"""The only place with Prefect, beside the flows themselves."""
