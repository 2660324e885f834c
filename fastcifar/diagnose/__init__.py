"""An experiment that answers one question about training: why is the validation loss of a frozen network unstable?

Four suspects are measured one by one (`suspects`), and each gets a verdict that is made from its numbers alone.
"""
