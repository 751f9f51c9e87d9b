"""What hedgerow costs, measured: `make bench` (docs/benchmarks.md). Knows the product from outside only, but for stages."""
