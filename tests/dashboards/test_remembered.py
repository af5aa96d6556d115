"""Answers that are made once for all who ask with the same words."""

import asyncio
import json

import httpx
import pytest
from starlette.responses import PlainTextResponse

from hpscan.dashboards.remembered import ASKED, Remembered


def asked(version="v1", **more):
    return json.dumps({"inputs": [{"id": "version", "property": "data", "value": version}, more]}).encode()


class Maker:
    """Counts what it makes, and takes its time."""

    def __init__(self, status=200, headers=None, size=0):
        self.made, self.status, self.headers, self.size = 0, status, headers, size

    async def __call__(self, scope, receive, send):
        body = (await receive())["body"]
        self.made += 1
        await asyncio.sleep(0.01)
        text = f"{self.made} {body.decode()}" + "x" * self.size
        await PlainTextResponse(text, self.status, self.headers)(scope, receive, send)


def answered(maker, *bodies, path=ASKED, most_bytes=1_000_000):
    async def ask():
        transport = httpx.ASGITransport(app=Remembered(maker, most_bytes))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            found = []
            for together in bodies:
                found += await asyncio.gather(*(client.post(path, content=body) for body in together))
            return [answer.text for answer in found]

    return asyncio.run(ask())


def test_who_asks_the_same_at_once_or_later_is_answered_the_same():
    maker = Maker()
    answers = answered(maker, [asked()] * 5, [asked()], [asked("v2"), asked(view=1)])
    assert maker.made == 3
    assert len(set(answers[:6])) == 1
    assert len(set(answers)) == 3


@pytest.mark.parametrize(
    "body",
    [b'{"inputs": [{"id": "tick", "value": 1}]}', asked(None), b'{"inputs": [], "state": [{"id": "version"}]}'],
    ids=["no version", "no version yet", "version is no input"],
)  # fmt: skip
def test_what_does_not_say_its_version_is_made_each_time(body):
    maker = Maker()
    answered(maker, [body], [body])
    assert maker.made == 2


@pytest.mark.parametrize(
    "body",
    [b"no json", b"\xff", b"[]", b"{}", b'{"inputs": 1}', b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000],
    ids=["no json", "no text", "no question", "no inputs", "inputs are no list", "not closed", "nested deeply"],
)
def test_what_no_callback_can_be_asked_by_is_refused(body):
    maker = Maker()
    (told,) = answered(maker, [body])
    assert '"status": 400' in told
    assert maker.made == 0


def test_other_paths_are_passed_on():
    maker = Maker()
    answered(maker, [asked()], [asked()], path="/api/v1/validate")
    assert maker.made == 2


@pytest.mark.parametrize("maker", [Maker(500), Maker(204), Maker(headers={"Cache-Control": "no-store"})], ids=["error", "nothing", "not to be kept"])  # fmt: skip
def test_what_went_wrong_is_not_kept(maker):
    answered(maker, [asked()], [asked()])
    assert maker.made == 2


def test_the_longest_unused_are_dropped():
    maker = Maker(size=10_000)
    answered(
        maker, [asked("a")], [asked("b")], [asked("a")], [asked("c")], [asked("a")], [asked("b")], most_bytes=25_000
    )
    assert maker.made == 4
