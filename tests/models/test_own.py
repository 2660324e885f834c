"""One's own network: its import, its code, its initial weights and its errors."""

import random
import sys

import numpy as np
import pytest
import torch
from support.own import SMALL
from support.own import write as write

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.models.build import build
from fastcifar.models.dropout import Noise
from fastcifar.models.names import is_own
from fastcifar.models.own import build_own, code_of
from fastcifar.models.own_check import check_own


def test_a_name_of_ones_own():
    assert is_own("net:make")
    assert not is_own("cnn")
    assert not is_own("timm:resnet18")


def global_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def test_weights_are_of_the_seed_and_the_global_state_stays(write):
    write("net", SMALL + "\nimport random, numpy\ndef noisy(n):\n    model = Small(n)\n    with torch.no_grad():\n"
          "        model.last.bias.fill_(random.random() + numpy.random.rand())\n    return model\n")  # fmt: skip
    code = code_of("net:noisy")
    torch.manual_seed(1)
    before = global_states()
    first = build("net:noisy", 10, 0.0, 7, code)
    assert global_states() == before
    torch.rand(5)
    random.random()
    np.random.rand()  # noqa: NPY002
    again, other = build("net:noisy", 10, 0.0, 7, code), build("net:noisy", 10, 0.0, 2**64 - 1, code)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])


def test_dropout_is_of_seed_epoch_and_sample(write):
    write("net")
    model, images = build_own("net:small", 10, 0, code_of("net:small")), torch.rand(4, 3, 32, 32)
    ids = torch.arange(4)
    assert torch.equal(model(images), model(images))
    one = model(images, Noise.of(0, 1, ids))
    assert torch.equal(one, model(images, Noise.of(0, 1, ids)))
    assert not torch.equal(one, model(images, Noise.of(0, 2, ids)))
    assert torch.equal(model(images[2:], Noise.of(0, 1, ids[2:])), one[2:])
    check_own("net:small", 10, 32)


def test_changed_code_is_other_code_and_refuses_the_old(write):
    write("net", "from layers import width\n" + SMALL)
    layers = write("layers", "width = 8\n")
    code = code_of("net:small")
    assert code == code_of("net:small")
    build_own("net:small", 10, 0, code)
    layers.write_text("width = 16\n", encoding="utf-8")
    assert code_of("net:small") != code
    assert sys.modules["net"].width == 16
    with pytest.raises(FastcifarError, match=f"code of net:small has changed: .* with {code[:12]}, and now .*; res"):
        build_own("net:small", 10, 0, code)
    layers.write_text("width = 8\n", encoding="utf-8")
    assert code_of("net:small") == code


def test_a_module_that_was_imported_before_is_read_again(write):
    path = write("net")
    sys.path.insert(0, str(path.parent))
    __import__("net")
    sys.path.remove(str(path.parent))
    path.write_text(SMALL + "\n# another file\nvalue = 3\n", encoding="utf-8")
    code_of("net:small")
    assert sys.modules["net"].value == 3


def test_a_module_of_a_package_and_a_file(write):
    write("net")
    assert code_of("net.py:small") == code_of("net:small")
    write("pack.__init__", "")
    write("pack.net")
    assert build_own("pack.net:small", 3, 0, code_of("pack.net:small"))(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nett:small", r"no module nett in the current directory .*; did you mean net:small\?"),
        ("nett.py:small", r"there is no file nett.py; did you mean 'net.py'\?"),
        ("quite.else:small", "no module quite.else .*; write package.module:factory"),
        ("net:smal", r"module net has no 'smal'; did you mean 'small'\?"),
        ("net:qqq", "module net has no 'qqq'; there are .*small"),
        ("net:torch", "net:torch is <module .*, which cannot be called"),
        ("net:", "'net:' is not of the form package.module:factory"),
        ("__main__:f", "is not of the form package.module:factory, where module is a file of its own"),
        ("broken:f", "the import of broken raises ZeroDivisionError: division by zero, broken.py line 1; repair"),
        ("unreadable:f", "the import of unreadable raises SyntaxError"),
        ("lacking:f", "lacking imports not_there, which is not installed"),
        ("bad:raising", r"bad:raising\(10\) raises RuntimeError: no luck, bad.py line 5; it is called with"),
        ("bad:nothing", r"bad:nothing\(10\) returns None; return a torch.nn.Module"),
        ("bad:constant", r"bad:constant\(10\) has no weights to train"),
        ("bad:narrow", r"bad:narrow returns \(2, 3\) for images of shape \(2, 3, 32, 32\); return logits of shape"),
        ("bad:misfit", r"bad:misfit fails on images of shape \(2, 3, 32, 32\): RuntimeError: "),
        ("bad:pair", "bad:pair returns a tuple for images"),
        ("bad:drawing_numpy", "from the global generator of numpy"),
        ("bad:drawing_python", "from the global generator of Python"),
        ("bad:tied", "the tensors network.weight and network.other.weight share their memory"),
        ("bad:remembering", r"network._extra_state of its state_dict\(\) is a dict, and checkpoints hold tensors only"),
        ("bad:lazy", "bad:lazy: network.1.weight has no size before the first batch; give each layer its size"),
        ("bad:drawing", "bad:drawing draws random numbers from the global generator of torch .* nn.Dropout"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(write, name, message):
    write("net")
    write("broken", "1 / 0")
    write("unreadable", "def f(:")
    write("lacking", "import not_there")
    write("bad", """
import random
import numpy as np
from torch import nn
def raising(n): raise RuntimeError("no luck")
def nothing(n): pass
def constant(n): return nn.Flatten()
def narrow(n): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
def lazy(n): return nn.Sequential(nn.Flatten(), nn.LazyLinear(n))
def misfit(n): return nn.Linear(5, n)
class pair(nn.Linear):
    def __init__(self, n): super().__init__(3072, n)
    def forward(self, x): return super().forward(x.flatten(1)), 1
class drawing(nn.Linear):
    def __init__(self, n): super().__init__(3072, n)
    def forward(self, x): return nn.functional.dropout(super().forward(x.flatten(1)))
class drawing_numpy(nn.Linear):
    def __init__(self, n): super().__init__(3072, n)
    def forward(self, x): return super().forward(x.flatten(1)) * np.random.rand()
class drawing_python(nn.Linear):
    def __init__(self, n): super().__init__(3072, n)
    def forward(self, x): return super().forward(x.flatten(1)) * random.random()
class tied(nn.Linear):
    def __init__(self, n): super().__init__(3072, n); self.other = nn.Linear(3072, n); self.other.weight = self.weight
    def forward(self, x): return super().forward(x.flatten(1))
class remembering(tied):
    def get_extra_state(self): return {"steps": 3}
""")  # fmt: skip
    with pytest.raises(UsageError, match=message):
        check_own(name, 10, 32)
