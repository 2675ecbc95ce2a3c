"""Figures and predictions as pages: reports, sweeps and tables of runs, and the player."""
