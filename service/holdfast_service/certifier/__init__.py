"""Tallies in, certificates out."""
