"""Which drafts are uploaded, and what the rules look at."""
