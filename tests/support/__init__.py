"""Helpers that tests share. No test imports from another test."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
