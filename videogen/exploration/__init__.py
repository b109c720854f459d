"""Exploring samplers: grids of settings are run, measured, compared and shown."""
