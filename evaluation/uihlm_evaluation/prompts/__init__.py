"""What is asked: data sets, and the choice of which of their prompts to run."""
