"""Runs that share architecture and batch size, trained as one program with a leading run dimension."""
