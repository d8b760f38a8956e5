"""Figures for Prometheus. No label ever holds a UID or anything of a patient."""
