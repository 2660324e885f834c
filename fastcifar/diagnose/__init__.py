"""Experiments that settle a question about training: one question, arms that differ in one thing, and an answer that
follows from the numbers.
"""
