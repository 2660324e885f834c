"""How numbers look: the terminal, progress, text, tables, pictures and pages. Nothing here knows where the numbers come
from.
"""
