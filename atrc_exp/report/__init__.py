"""What repeated runs say together: aggregated results, tables, the vote of the searches and its figures."""
