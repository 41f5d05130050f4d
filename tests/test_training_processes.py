"""Two processes train what one trains: in float64 to twelve digits, with batch norm, ragged batches, hard examples."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mriscope.training.shared_batch_norm import SharedBatchNorm, share_batch_norm

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import torch
from torch import nn
sys.path.insert(0, {tests!r})
from mriscope.recipe import TrainingSettings
from mriscope.training import loop
from mriscope.training.devices import destroy_process_group, init_process_group, rank
from mriscope.training.progress import Monitor
import test_training_loop as here

class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = here.small_net(dropout=0.0, dtype=torch.float64)
    def forward(self, images):
        return self.net(images.double())

init_process_group(torch.device("cpu"))
slices, told = here.stripes(), {{}}
cases = {{
    "plain": ({{"batch_size": 7}}, 96),
    "hard": ({{"batch_size": 9, "hard_share": 0.3}}, 95),
    "few": ({{"batch_size": 1, "epochs": 1}}, 5),
    "hardest": ({{"batch_size": 5, "hard_share": 0.01, "epochs": 1}}, 21),
}}
for name, (changes, rows) in cases.items():
    folder = Path(sys.argv[1]) / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = {{"epochs": 2, "optimizer": "SGD", "learning_rate": 0.1, "keep": "last", **changes}}
    trained = loop.train(
        Double(), slices, np.arange(rows), np.arange(97, 128), TrainingSettings.model_validate(settings),
        scale="unit", seed=3, device=torch.device("cpu"), folder=folder, monitor=Monitor(silent=True),
    )
    history = [[row["train_loss"], row["train_accuracy"], row["validation_loss"], row["validation_accuracy"]]
               for row in trained.history]
    told[name] = ({{key: value.clone() for key, value in trained.weights.items()}}, history)
torch.save(told, f"{{sys.argv[2]}}.{{rank()}}")
destroy_process_group()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What one process has trained, and what each of two has."""
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "program.py"
    script.write_text(PROGRAM.format(tests=str(Path(__file__).parent)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, before in (("one", []), ("two", torchrun)):
        command = [sys.executable, *before, script, folder / name, folder / f"{name}.pt"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return [torch.load(folder / name, weights_only=True) for name in ("one.pt.0", "two.pt.0", "two.pt.1")]


@pytest.mark.parametrize("case", ["plain", "hard", "few", "hardest"])
def test_weights_statistics_and_figures_agree_to_twelve_digits(trained, case):
    one, *both = (found[case] for found in trained)
    for weights, history in both:
        assert weights.keys() == one[0].keys()
        for name in weights:
            assert (weights[name] - one[0][name]).abs().max() <= 1e-12, name
        np.testing.assert_allclose(history, one[1], atol=1e-12, rtol=0)
    assert all(np.isfinite(one[1][-1]))


def test_alone_it_is_batch_norm():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3, affine=False)))
    other = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3, affine=False)))
    other.load_state_dict(net.state_dict())
    share_batch_norm(other)
    assert sum(isinstance(module, SharedBatchNorm) for module in other.modules()) == 2
    images = torch.randn(4, 1, 9, 9)
    assert torch.equal(net(images), other(images))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())
    assert torch.equal(net.eval()(images), other.eval()(images))
