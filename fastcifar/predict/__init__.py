"""Predictions of finished runs: probabilities, scores, and the submission file for Kaggle."""
