def can_stack(spec):
    return None
