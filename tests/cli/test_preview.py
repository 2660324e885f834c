"""``fastcifar preview``: the picture and what is printed."""

from PIL import Image
from support.command import Answer
from support.text import next_of


def test_preview_draws_a_picture(command, synthetic, tmp_path):
    out = tmp_path / "pictures" / "erasing.png"
    answer = command("preview", "--data", synthetic.path, "--rows", 2, "--columns", 3, "--out", out)
    next_step = next_of("train", "--exp", 2, "--data", synthetic.path, "--set", "recipe=erasing")
    assert answer == Answer(0, f"{out}: 2 images, each unchanged and in 3 versions under erasing\n", next_step)
    with Image.open(out) as image:
        assert image.size == (4 * 98 + 2, 2 * 98 + 2)
    first = out.read_bytes()
    command("preview", "--data", synthetic.path, "--rows", 2, "--columns", 3, "--out", out, "--seed", 1)
    assert out.read_bytes() != first
    answer = command("preview", "--data", synthetic.path, "--recipe", "flips", "--out", out)
    assert (answer.code, answer.out) == (2, "")
    assert "recipe 'flips' does not exist; there are none" in answer.err
