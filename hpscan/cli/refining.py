"""The command that goes on with a sweep where it is interesting."""

from __future__ import annotations

from typing import Annotated

import typer

from hpscan.cli.launching import launch_spec
from hpscan.cli.output import DEFAULT_STORE, StoreOpt, SweepArg, opened

__all__ = ["refine"]


def refine(
    sweep: SweepArg,
    *,
    store: StoreOpt = DEFAULT_STORE,
    finer: Annotated[bool, typer.Option("--finer/--no-finer", help="Midpoints about the basin.")] = True,
    wider: Annotated[
        bool, typer.Option("--wider/--no-wider", help="More points beyond an edge with a best cell.")
    ] = True,
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster, as for launch.", metavar="RAY")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change.")] = False,
) -> None:
    """Go on with SWEEP on a finer grid about the basin, or a wider one; what is trained stays, and counts."""
    from hpscan.landscape import landscapes
    from hpscan.launcher import check_cluster
    from hpscan.refine import refined

    check_cluster(address)
    source = opened(store)
    spec = source.spec(sweep).resolved()
    found = refined(spec, landscapes(spec, source.runs(sweep, without=["config"])), finer=finer, wider=wider)
    for line in found.changes:
        print(line)
    assert found.spec.adaptive is not None
    print(f"adaptive: at most {found.spec.adaptive.most_cells:.1%} of each landscape's cells, those trained included")
    if dry_run:
        print("nothing was written")
        return
    launch_spec(found.spec, store=store, address=address)
