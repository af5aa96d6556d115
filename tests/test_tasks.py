import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torch.nn import functional as F

from hpscan.models import PlainMLP
from hpscan.tasks import classification, top_error

TASK = classification(lambda: PlainMLP((2, 2)))


def test_error_is_the_share_of_wrong_classes():
    logits, target = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [5.0, 1.0]]), torch.tensor([0, 1, 1, 1])
    assert TASK.error(logits, target).item() == pytest.approx(0.5)
    assert TASK.loss(logits, target).item() == pytest.approx(F.cross_entropy(logits, target).item())


def test_sequences_are_judged_token_by_token():
    logits, targets = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 5))
    assert TASK.loss(logits, targets).item() == pytest.approx(F.cross_entropy(logits.transpose(1, 2), targets).item())
    assert TASK.error(logits, targets).shape == ()


def test_top_5_error_agrees_with_scikit_learn():
    logits, targets = torch.randn(200, 20), torch.randint(0, 20, (200,))
    accuracy = top_k_accuracy_score(targets.numpy(), logits.numpy(), k=5, labels=range(20))
    assert top_error(5)(logits, targets).item() == pytest.approx(1 - accuracy)


def test_an_average_is_of_the_predicted_probabilities():
    several = torch.randn(4, 6, 3)
    torch.testing.assert_close(TASK.average(several).softmax(-1), several.softmax(-1).mean(0))
    torch.testing.assert_close(TASK.average(several[:1]).softmax(-1), several[0].softmax(-1))


def test_smoothing_is_torchs():
    logits, targets = torch.randn(8, 4), torch.randint(0, 4, (8,))
    torch.testing.assert_close(
        TASK.smoothed(0.3)(logits, targets), F.cross_entropy(logits, targets, label_smoothing=0.3)
    )


def test_a_model_that_is_made_already_is_told_from_one_that_is_to_be_made():
    with pytest.raises(
        TypeError, match="must be a function that makes a model, or its class; got a PlainMLP that is made"
    ):
        classification(PlainMLP((2, 2)))
