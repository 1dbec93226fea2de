"""Ablations: a plan of variants and seeds, its runs, paired statistics, a report."""
