"""The measures: python -m tests.bench."""
