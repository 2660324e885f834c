"""The presentation of numbers: terminal, progress, text, tables, figures and pages.

Nothing in this package depends on where the numbers come from.
"""
