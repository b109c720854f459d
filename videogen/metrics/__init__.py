"""Measures of what was generated, each with its error bar."""
