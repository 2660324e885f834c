"""What tests share. No test imports from a test."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
