"""Certificates replayed draw by draw."""
