def train_stacked(*a):
    raise NotImplementedError


def open_stacked(*a):
    raise NotImplementedError
