"""What a run comes to: sums, scores, tables, and the saved run billed anew."""
