"""At the top the flows that prefect.yaml names, and nothing else; docs/rooms.md shows the wings."""
