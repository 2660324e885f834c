"""Numbers as text: each accuracy is shown with its spread over the seeds."""

import numpy as np

from fastcifar.show.text import printable, spread


def test_accuracies_are_mean_and_deviation_over_seeds():
    accuracies = [0.67, 0.681, 0.6535]
    mean, std = 100 * np.mean(accuracies), 100 * np.std(accuracies, ddof=1)
    assert spread(accuracies) == f"{mean:.2f} ± {std:.2f}" == "66.82 ± 1.38"
    assert spread([0.5]) == "50.00"
    assert spread([0.5, None, 0.6]) == "55.00 ± 7.07 (1 diverged)"
    assert spread([None, None]) == "none (2 diverged)"


def test_what_no_file_can_hold_is_replaced():
    assert printable("ok\n\t<é日🙂>") == "ok\n\t<é日🙂>"
    assert printable("\x00\x1b\r\x7f\x9f\u2028\u2029\ud800\udc80\uffff") == "\ufffd" * 10
    printable("".join(map(chr, range(0x11000)))).encode()
