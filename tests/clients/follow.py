"""Events by dlt's rest_api into a DuckDB file, as its users write it. A program for dlt's own virtualenv."""

import argparse

import dlt
from dlt.sources.rest_api import rest_api_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("host", "key", "since", "until", "file", "order"):
        parser.add_argument(f"--{name}", required=name != "order")
    asked = parser.parse_args()
    params = {"before": asked.until}
    if asked.order:
        params |= {"limit": 1000, "orderBy": asked.order}
    events = {
        "name": "events",
        "primary_key": "id",
        "write_disposition": "merge",
        "max_table_nesting": 0,
        "columns": {"properties": {"data_type": "json"}},
        "endpoint": {
            "path": "api/projects/1/events/",
            "data_selector": "results",
            "params": params,
            "incremental": {"start_param": "after", "cursor_path": "timestamp", "initial_value": asked.since},
        },
    }
    client = {
        "base_url": asked.host,
        "auth": {"type": "bearer", "token": asked.key},
        "paginator": {"type": "json_link", "next_url_path": "next"},
    }
    pipeline = dlt.pipeline("events", destination=dlt.destinations.duckdb(asked.file), dataset_name="posthog")
    print(pipeline.run(rest_api_source({"client": client, "resources": [events]}), loader_file_format="parquet"))


if __name__ == "__main__":
    main()
