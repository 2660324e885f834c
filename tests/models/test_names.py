"""The names of networks, which are known without torch."""

import subprocess
import sys

import torchvision
from support import ROOT

from fastcifar.models import build, names


def test_torchvision_s_names_are_those_that_it_registers():
    assert names.torchvision_names() == set(torchvision.models.list_models(module=torchvision.models))


def test_every_name_can_be_built():
    for name in names.MODELS:
        assert build.count_parameters(build.build(name, 10, 0.0, 0)) > 0


def test_the_names_need_no_torch():
    code = (
        "import sys; from fastcifar.models import names; names.is_pretrained('resnet18'); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
