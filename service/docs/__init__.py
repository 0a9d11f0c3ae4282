"""The documentation page and what it is made of."""
