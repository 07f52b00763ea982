"""ATRC: search and compare relational contexts for multi-task dense prediction."""

__version__ = "0.1.0"
