"""Of a cluster's job server: what is waited for, and what is told."""

import pytest

from hpscan import jobs
from hpscan.errors import ClusterError, UnknownJobError

ADDRESS = "http://127.0.0.1:8265"
STARTING = "Request failed with status code 500: No available agent to submit job, please try again later."


def test_a_cluster_that_has_no_agent_yet_is_asked_again(monkeypatch):
    monkeypatch.setattr(jobs.time, "sleep", lambda _: None)
    answers = iter([RuntimeError(STARTING), RuntimeError(STARTING), "job-1"])

    def submit(entrypoint):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return f"{answer} {entrypoint}"

    assert jobs._asked(submit, entrypoint="x") == "job-1 x"


@pytest.mark.parametrize(("text", "patience"), [("401: a token is needed\nmore", 30.0), (STARTING, -1.0)])
def test_what_does_not_pass_is_told_in_one_line(monkeypatch, text, patience):
    monkeypatch.setattr(jobs, "AGENT_S", patience)

    def refuse():
        raise RuntimeError(text)

    with pytest.raises(ClusterError) as told:
        jobs._asked(refuse)
    assert str(told.value) == f"the cluster's job server: {text.splitlines()[0]}"


def test_a_cluster_that_does_not_know_the_sweep_is_told_from_one_that_does_not_answer(monkeypatch):
    class Client:
        def list_jobs(self):
            return []

    monkeypatch.setattr(jobs, "_client", lambda address: Client())
    with pytest.raises(UnknownJobError, match=f"tiny: the cluster at {ADDRESS} has no job of that sweep"):
        jobs.latest(ADDRESS, "tiny")
