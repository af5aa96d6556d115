"""Sharpness: the top eigenvalue of the Hessian of the training loss, for K runs at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, jvp, vmap

from hpscan.program import Named, Program, row_of

__all__ = ["EXAMPLES", "MOST_ITERATIONS", "sharpness", "top_eigenvalues"]

EXAMPLES = 256
"""Training examples that the Hessian is of, the same for every run of a workload."""
TOLERANCE = 1e-3
"""The residual ‖Hv − ρv‖, beside the eigenvalue ρ, at which it is taken for found: some eigenvalue is no farther from ρ than
that, and the error of one that stands apart is of the order of the residual's square."""
MOST_ITERATIONS = 100

Vectors = Float[Tensor, "runs parameters"]
PerRun = Float[Tensor, " runs"]


def sharpness(
    program: Program,
    state: Named,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    fused: bool,
    most: int = MOST_ITERATIONS,
) -> PerRun:
    """The largest eigenvalue of the Hessian of the training loss over some batches, in evaluation mode.

    In evaluation mode BatchNorm's statistics are constants, and a network that is invariant to the scale of its weights
    in training is not. Hessian-vector products are forward over reverse: the derivative of the gradient along a vector.

    Parameters
    ----------
    program
        The task; the loss is the one it is trained on, label smoothing included.
    state
        Parameters and buffers of K runs, stacked.
    batches
        Inputs and targets of examples, the mean over all of which is the loss; one batch at a time is in memory.
    fused
        Whether vmap takes the runs together.
    most
        Iterations at the most.
    """
    params = {name: value.detach() for name, value in state.items() if name in program.trained}
    buffers = {name: value for name, value in state.items() if name not in program.trained}
    n_examples = sum(len(inputs) for inputs, _ in batches)

    def product_of_one(at: Named, held: Named, along: Named, inputs: Tensor, targets: Tensor) -> Named:
        def loss(params: Named) -> Tensor:
            return program.loss(program.outputs({**params, **held}, inputs), targets)

        return jvp(grad(loss), (at,), (along,))[1]

    def products(vectors: Vectors) -> Vectors:
        total = torch.zeros_like(vectors)
        along = _unflattened(vectors, params)
        for inputs, targets in batches:
            if fused:
                found = vmap(product_of_one, in_dims=(0, 0, 0, None, None))(params, buffers, along, inputs, targets)
            else:
                of_each = [
                    product_of_one(row_of(params, k), row_of(buffers, k), row_of(along, k), inputs, targets)
                    for k in range(len(vectors))
                ]
                found = {name: torch.stack([of_one[name] for of_one in of_each]) for name in params}
            total += _flattened(found) * (len(inputs) / n_examples)
        return total

    like = _flattened(params)
    # the same start for every run, or a run's last digits would depend on its place
    start = torch.randn(like.shape[1], generator=torch.Generator().manual_seed(0)).to(like)
    return top_eigenvalues(products, start.expand_as(like), most=most)


def top_eigenvalues(
    products: Callable[[Vectors], Vectors],
    start: Vectors,
    *,
    tolerance: float = TOLERANCE,
    most: int = MOST_ITERATIONS,
) -> PerRun:
    """The largest eigenvalue of each of K symmetric matrices A: power iteration in the form of Lanczos (1950).

    Power iteration keeps the last of the vectors v, Av, A²v, …, and finds whichever eigenvalue is largest in magnitude;
    the largest one on the space that all of them span needs no more products, far fewer iterations, and no shift where a
    negative eigenvalue dominates. On an orthonormal basis A is tridiagonal there, and two vectors are enough to go on.
    Without reorthogonalisation rounding repeats eigenvalues that are found already, which leaves the largest as it is.

    Parameters
    ----------
    products
        From one vector a matrix to its product.
    start
        Where to begin, of any length.
    tolerance
        Stop for a matrix where ‖Av − ρv‖ ≤ tolerance · |ρ|, with ρ the eigenvalue and v the vector found. All go on
        until the last has stopped, but what each has found is kept.
    most
        Iterations.
    """
    vectors, before = start / start.norm(dim=1, keepdim=True), torch.zeros_like(start)
    beta = torch.zeros_like(start[:, 0])
    found, done = torch.full_like(beta, torch.nan).double(), torch.zeros_like(beta, dtype=torch.bool)
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for _ in range(most):
        image = products(vectors) - beta[:, None] * before
        alpha = (vectors * image).sum(1)
        image = image - alpha[:, None] * vectors
        beta = image.norm(dim=1)
        finite = torch.isfinite(alpha) & torch.isfinite(beta)
        diagonal.append(torch.where(finite, alpha, 0.0).double())
        beside.append(torch.where(finite, beta, 0.0).double())
        along, across = torch.stack(diagonal, 1), torch.stack(beside, 1)
        tridiagonal = (
            torch.diag_embed(along) + torch.diag_embed(across[:, :-1], 1) + torch.diag_embed(across[:, :-1], -1)
        )
        values, bases = torch.linalg.eigh(tridiagonal)
        largest = torch.where(finite, values[:, -1], torch.nan)
        residual = across[:, -1] * bases[:, -1, -1].abs()
        found, done = torch.where(done, found, largest), done | ~(residual > tolerance * largest.abs())
        if done.all():
            break
        before, vectors = vectors, image / beta.clamp(min=torch.finfo(beta.dtype).tiny)[:, None]
    return found


def _flattened(named: Named) -> Vectors:
    return torch.cat([value.reshape(len(value), -1) for value in named.values()], 1)


def _unflattened(vectors: Vectors, like: Named) -> Named:
    parts = torch.split(vectors, [value[0].numel() for value in like.values()], 1)
    return {name: part.reshape(value.shape) for part, (name, value) in zip(parts, like.items(), strict=True)}
