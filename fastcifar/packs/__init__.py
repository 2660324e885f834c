"""Train runs that share architecture and batch size as one program with a leading run dimension."""
