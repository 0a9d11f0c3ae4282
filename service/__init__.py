"""The HTTP layer: one request is one call of a SQL function, one SQL error is one HTTP error."""

__version__ = "2.0.0"
