"""Ways of having one pair of models write an answer, side by side on one machine: others' and ours."""
