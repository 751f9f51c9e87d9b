"""What hedgerow costs, measured: `make bench`. Knows the product from outside only, but for stages."""
