"""Makes rows and their ledger entry durable together; ledger.py has the rules."""
