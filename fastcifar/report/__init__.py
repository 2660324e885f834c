"""What people look at: sample images, curves, tables."""
