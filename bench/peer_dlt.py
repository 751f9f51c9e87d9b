"""dlt as one who knows it would set it up: ascending, no nested tables, Parquet as the way into DuckDB.

Runs in dlt's own environment: imports nothing of the bench.
"""

# mypy: ignore-errors

import sys

import dlt
from dlt.sources.rest_api import rest_api_source

url, start, end, limit = sys.argv[1:]
source = rest_api_source(
    {
        "client": {
            "base_url": url,
            "auth": {"type": "bearer", "token": "phx_bench"},
            "paginator": {"type": "json_link", "next_url_path": "next"},
        },
        "resources": [
            {
                "name": "events",
                "primary_key": "id",
                "write_disposition": "merge",
                "max_table_nesting": 0,
                "columns": {"properties": {"data_type": "json"}},
                "endpoint": {
                    "path": "api/projects/1/events/",
                    "data_selector": "results",
                    "params": {"limit": int(limit), "before": end, "orderBy": '["timestamp"]'},
                    "incremental": {"start_param": "after", "cursor_path": "timestamp", "initial_value": start},
                },
            }
        ],
    }
)
pipeline = dlt.pipeline(
    "bench", destination=dlt.destinations.duckdb("it.duckdb"), dataset_name="posthog", progress=None
)
pipeline.run(source, loader_file_format="parquet")
