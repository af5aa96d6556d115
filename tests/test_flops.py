"""Operations of a step, counted by hand."""

import pytest
import torch
from torch import nn

from hpscan.flops import flop_per_run_step
from hpscan.randomness import initial_model


def by_hand(workload, batch):
    """Two operations a multiply-add: forward, to the weights, and to the inputs except the model's own."""
    task, products = workload.task(), []

    def note(module, inputs, output):
        taps = module.weight[0].numel()
        products.append(2 * output.numel() * taps)

    model = initial_model(task.model, 0)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(note)
    inputs = torch.from_numpy(workload.example(batch))
    model(inputs if task.prepare is None else task.prepare(inputs))
    return 3 * sum(products) - products[0]


MODELS = {
    "plain": {"name": "plain_mlp", "hidden": [8]},
    "normalised": {"name": "normalised_mlp", "hidden": [8, 12]},
    "cnn": {"name": "cnn", "channels": [4, 6]},
}


@pytest.mark.parametrize("batch", [2, 16])
@pytest.mark.parametrize("name", MODELS)
def test_every_product_is_counted_forward_and_backward(make_spec, name, batch):
    workload = make_spec(workload={"name": "digits", "model": MODELS[name], "train": 200}).workload
    assert flop_per_run_step(workload, workload.example(batch)) == by_hand(workload, batch)


CODE = """
import numpy as np
import torch
from torch import nn
from hpscan import Data, Split, UserWorkload
from hpscan.tasks import classification

class Branching(nn.Linear):
    def forward(self, x):
        return super().forward(x) if {condition} else x

def made():
    split = Split(np.ones((8, 3), np.float32), np.zeros(8, np.int64))
    return UserWorkload(lambda: Data(split, split, split), classification(lambda: Branching(3, 2)))
"""


@pytest.mark.parametrize(
    ("module", "condition", "expected"),
    [("of_numbers", "x.sum() > 0", None), ("of_shapes", "len(x) > 0", 2 * (2 * 4 * 3 * 2))],
)
def test_a_model_that_needs_real_numbers_is_not_counted(make_spec, tmp_path, monkeypatch, module, condition, expected):
    (tmp_path / f"{module}.py").write_text(CODE.replace("{condition}", condition))
    monkeypatch.syspath_prepend(tmp_path)
    workload = make_spec(workload={"factory": f"{module}:made", "folder": str(tmp_path)}, batch_size=4).workload
    assert flop_per_run_step(workload, workload.example(4)) == expected


def test_a_model_that_looks_at_numbers_while_it_is_made_is_not_counted(make_spec, tmp_path, monkeypatch):
    made = "lambda: (torch.linspace(0, 0.1, 3)[1].item(), nn.Linear(3, 2))[1]"
    (tmp_path / "looks.py").write_text(
        "import torch\n" + CODE.replace("lambda: Branching(3, 2)", made).replace("{condition}", "True")
    )
    monkeypatch.syspath_prepend(tmp_path)
    workload = make_spec(workload={"factory": "looks:made", "folder": str(tmp_path)}, batch_size=4).workload
    assert flop_per_run_step(workload, workload.example(4)) is None
