"""Evaluation: data sets, metrics, runs and results."""
