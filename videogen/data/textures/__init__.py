"""Procedural clips with the statistics of photographed ones: dead leaves with textures, in motion."""
