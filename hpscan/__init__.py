"""hpscan maps how a network's error depends on learning rate × weight decay, coupled and decoupled side by side.

The words used everywhere:

sweep
    a named experiment: one spec, one folder in the store
spec
    the YAML file that describes a sweep
variant
    an optimizer with a decay convention: ``sgd``, ``sgdw``, ``adam``, ``adamw``, ``adamw-torch``
cell
    one point of the grid: variant, lr, wd, and any further axis
run
    one training: a cell with one seed; its ``run_id`` is a hash of its complete config
pack
    runs that train together in one process, as one Ray trial
landscape
    lr × wd × seed → metric for one variant, with the state of every run
state
    ``completed``, ``diverged``, ``stopped``, ``failed`` (user code raised) or ``missing``
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpscan.analysis import Analysis, analyze
    from hpscan.errors import ClusterError, SweepIncompleteError
    from hpscan.grid import packs, runs
    from hpscan.intervals import Interval
    from hpscan.landscape import Landscape, landscapes
    from hpscan.launcher import launch_sweep
    from hpscan.randomness import RandomLayer
    from hpscan.separation import separability
    from hpscan.spec import Spec, SpecError
    from hpscan.store import Store, StoreError
    from hpscan.sweep import Sweep, open_sweep
    from hpscan.tasks import Task, classification
    from hpscan.trainable import RunOptimizer
    from hpscan.verdicts import compare, verdict
    from hpscan.views import view
    from hpscan.workloads import Data, Split, UserWorkload, WorkloadError

__all__ = [
    "Analysis",
    "ClusterError",
    "Data",
    "Interval",
    "Landscape",
    "RandomLayer",
    "RunOptimizer",
    "Spec",
    "SpecError",
    "Split",
    "Store",
    "StoreError",
    "Sweep",
    "SweepIncompleteError",
    "Task",
    "UserWorkload",
    "WorkloadError",
    "__version__",
    "analyze",
    "classification",
    "compare",
    "landscapes",
    "launch_sweep",
    "open_sweep",
    "packs",
    "runs",
    "separability",
    "verdict",
    "view",
]

_HOMES = {
    "Analysis": "analysis",
    "ClusterError": "errors",
    "Data": "workloads",
    "Interval": "intervals",
    "Landscape": "landscape",
    "RandomLayer": "randomness",
    "RunOptimizer": "trainable",
    "Spec": "spec",
    "SpecError": "spec",
    "Split": "workloads",
    "Store": "store",
    "StoreError": "store",
    "Sweep": "sweep",
    "SweepIncompleteError": "errors",
    "Task": "tasks",
    "UserWorkload": "workloads",
    "WorkloadError": "workloads",
    "analyze": "analysis",
    "classification": "tasks",
    "compare": "verdicts",
    "landscapes": "landscape",
    "launch_sweep": "launcher",
    "open_sweep": "sweep",
    "packs": "grid",
    "runs": "grid",
    "separability": "separation",
    "verdict": "verdicts",
    "view": "views",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: ``import hpscan`` alone stays cheap."""
    if name == "__version__":
        return version("hpscan")
    if name in _HOMES:
        return getattr(import_module(f"hpscan.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hpscan' has no attribute {name!r}")
