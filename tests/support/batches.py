"""How many images a small CIFAR batch has, and their labels."""

COUNT = 11  # images a batch


LABELS = [number % 10 for number in range(COUNT)]
