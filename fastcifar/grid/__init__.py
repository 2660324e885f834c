"""Many runs: what is to be trained, in which packs, by whom; none is trained twice and no result is lost."""
