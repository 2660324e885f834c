"""What finished runs say about images: probabilities, scores, and the file that Kaggle takes."""
