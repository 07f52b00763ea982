"""ATRC: search and compare relational contexts for multi-task dense prediction."""
