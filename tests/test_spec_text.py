"""A spec as text: found, read and overridden, before anybody asks what it says."""

import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hpscan.spec import Spec, SpecError
from hpscan.spec_text import override_field, parse_yaml, read_source, shipped_specs
from tests.test_spec import load


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: {{ sweep }}", "not YAML at line"),
        ("notes: 2024-13-45", "not YAML"),
        ("a: \x01", "not YAML"),
        ("a: [1, 2", "not YAML at line"),
        ("- 1", "must be a mapping of fields"),
        ("", "must be a mapping of fields such as `name:`; got nothing"),
    ],
    ids=["template", "date", "control", "broken", "list", "empty"],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path, text, message):
    with pytest.raises(SpecError, match=message):
        load(tmp_path, text)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x80\x02\xff\x00")
    with pytest.raises(SpecError, match="not a text file"):
        Spec.load(str(path))


def test_a_repeated_key_is_refused(tmp_path, tiny_raw):
    with pytest.raises(SpecError, match="key 'seeds' is given twice"):
        load(tmp_path, yaml.safe_dump(tiny_raw) + "\nseeds: [7]\n")


def test_an_absent_file_is_refused_with_the_shipped_names():
    with pytest.raises(SpecError, match=r"no such file, and no shipped spec of that name \(.*quickstart.*\)"):
        Spec.load("no-such-spec")


def test_overrides_set_nested_values_in_order(tmp_path, tiny_raw):
    tiny_raw["workload"] = "digits"
    spec = load(
        tmp_path, tiny_raw,
        "variants=[adamw]", "seeds=[11]", "seeds=[12]", "workload.label_noise=0.1", "schedule=constant", "grid.lr=[1e-1]",
    )  # fmt: skip
    assert spec.variants == ("adamw",)
    assert spec.seeds == (12,)
    assert spec.workload.label_noise == 0.1
    assert spec.schedule.name == "constant"
    assert spec.grid.lr == (0.1,)


@pytest.mark.parametrize("whole", ["1e3", "1E3", "1.0e3", "1e+3", "+1.e3", "10000e-1"])
def test_a_whole_number_may_be_written_with_an_exponent(tmp_path, tiny_raw, whole):
    assert load(tmp_path, tiny_raw, f"budget.steps={whole}").steps == 1000
    text = yaml.safe_dump(tiny_raw | {"budget": {"steps": "HERE"}}).replace("HERE", whole)
    spec = load(tmp_path, text)
    assert (spec.steps, type(spec.budget.steps)) == (1000, int)


@pytest.mark.parametrize("broken", ["1.5e0", "1e-3", "'1e3'"])
def test_what_is_no_whole_number_is_refused_where_one_is_needed(tmp_path, tiny_raw, broken):
    with pytest.raises(SpecError, match=r"^`budget.steps`: input must be a valid integer"):
        load(tmp_path, tiny_raw, f"budget.steps={broken}")


@pytest.mark.parametrize("clock", ["10:00", "1:30:00", "10:00.5"])
def test_what_yaml_once_took_for_minutes_and_seconds_is_no_number(tmp_path, tiny_raw, clock):
    message = rf"^`budget.steps`: input must be a valid integer, .*; got '{clock}'$"
    with pytest.raises(SpecError, match=message):
        load(tmp_path, tiny_raw, f"budget.steps={clock}")
    with pytest.raises(SpecError, match=message):
        load(tmp_path, yaml.safe_dump(tiny_raw | {"budget": {"steps": "HERE"}}).replace("HERE", clock))
    assert load(tmp_path, tiny_raw, f"notes={clock}").notes == clock


def test_a_word_that_looks_like_a_number_stays_a_word(tmp_path, tiny_raw):
    spec = load(tmp_path, tiny_raw, "name='1e3'", "notes='7e-2'")
    assert (spec.name, spec.notes) == ("1e3", "7e-2")
    assert load(tmp_path, spec.to_yaml()) == spec


@pytest.mark.parametrize("override", ["seeds", "=3", "seeds.first=1", "grid.lr=[1", "nonsense.key=1"])
def test_a_bad_override_is_refused(tmp_path, tiny_raw, override):
    with pytest.raises(SpecError):
        load(tmp_path, tiny_raw, override)


def test_what_is_merged_into_a_mapping_is_no_repetition_wherever_it_is_merged_again():
    text = """
    base: &base {lr: 1, wd: 2}
    deep: {deeper: &own {<<: *base, lr: 3}}
    again: {<<: *own}
    """
    assert parse_yaml(text, "x") == yaml.safe_load(text)
    with pytest.raises(SpecError, match="key 'lr' is given twice"):
        parse_yaml(text.replace("lr: 3", "lr: 3, lr: 4"), "x")


WORDS = st.text("abcdefg_", min_size=1, max_size=4).filter(lambda word: yaml.safe_load(word) == word)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.floats(-1e6, 1e6) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(WORDS, VALUES, max_size=4)


@given(MAPPINGS, st.sampled_from([True, False, None]))
def test_whatever_yaml_writes_is_read_as_yaml_reads_it(raw, style):
    text = yaml.safe_dump(raw, default_flow_style=style)
    assert parse_yaml(text, "x") == yaml.safe_load(text) == raw


@given(MAPPINGS.filter(bool), st.data())
def test_a_key_given_twice_is_refused_at_any_depth(raw, data):
    name = data.draw(st.sampled_from(sorted(raw)))
    twice = yaml.safe_dump(raw) + yaml.safe_dump({name: 1})
    depth = data.draw(st.integers(0, 3))
    for level in range(depth):
        twice = f"k{level}:\n" + "".join(f"  {line}\n" for line in twice.splitlines())
    with pytest.raises(SpecError, match=f"^spec 'x': not YAML at line [0-9]+: key '{name}' is given twice$"):
        parse_yaml(twice, "x")


def test_a_key_that_is_no_word_is_refused():
    with pytest.raises(SpecError, match=r"^spec 'x': not YAML at line 1: a key must be a plain word$"):
        parse_yaml("? [a, b]\n: 1", "x")


@given(MAPPINGS, st.lists(WORDS, min_size=1, max_size=4), VALUES)
def test_an_override_sets_one_field_and_leaves_the_others(raw, path, value):
    changed = copy.deepcopy(raw)
    override = (
        f"{'.'.join(path)}={yaml.safe_dump(value, default_flow_style=True).removesuffix(chr(10)).removesuffix('...')}"
    )
    below, blocked = raw, False
    for word in path[:-1]:
        below = below.get(word, {})
        if below is None:
            below = {}
        if isinstance(below, str):
            below = {"name": below}
        if not isinstance(below, dict):
            blocked = True
            break
    if blocked:
        with pytest.raises(SpecError, match=r"which has no keys below it$"):
            override_field(changed, override)
        return
    override_field(changed, override)
    found = changed
    for word in path:
        parent, found = found, found[word]
    assert found == value
    assert {name: own for name, own in parent.items() if name != path[-1]} == {
        name: own for name, own in below.items() if name != path[-1]
    }
    assert {name: own for name, own in changed.items() if name != path[0]} == {
        name: own for name, own in raw.items() if name != path[0]
    }


def test_what_is_left_out_gets_keys_below_it():
    raw = {"adaptive": None}
    override_field(raw, "adaptive.most_cells=0.3")
    assert raw == {"adaptive": {"most_cells": 0.3}}


def test_the_short_form_of_a_name_gets_keys_below_it():
    raw = {"workload": "digits"}
    override_field(raw, "workload.train=200")
    assert raw == {"workload": {"name": "digits", "train": 200}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", r"--set 'seeds': must be key=value, e\.g\. seeds=\[1, 2\]"),
        ("  =3", r"--set '  =3': must be key=value"),
        ("seeds.first=1", r"--set 'seeds\.first=1': `seeds` holds \[0, 1\], which has no keys below it"),
        ("lr=[1", r"--set 'lr=\[1': '\[1' is not a YAML value"),
        ("lr={[1]: 2}", r"is not a YAML value: a key must be a plain word$"),
        ("grid={lr: [1], lr: [2]}", r"is not a YAML value: key 'lr' is given twice$"),
        ("lr=2024-13-45", r"'2024-13-45' is not a YAML value"),
    ],
)
def test_an_override_that_is_none_says_what_is_wrong_in_one_line(override, message):
    raw = {"seeds": [0, 1]}
    with pytest.raises(SpecError, match=f"^{message}" if message.startswith("--") else message) as error:
        override_field(raw, override)
    assert "\n" not in str(error.value)
    assert raw == {"seeds": [0, 1]}


def test_a_file_comes_before_a_shipped_spec_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_source("quickstart") == shipped_specs()["quickstart"]
    (tmp_path / "quickstart").write_text("mine: ü", encoding="utf-8")
    assert read_source("quickstart") == "mine: ü"
