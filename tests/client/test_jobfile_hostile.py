"""Whatever is in a file, the answer is a job or a list of mistakes with their places, and soon."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainforge.jobfile import layers, yamlfile
from trainforge.jobfile.checks import SECTIONS, SpecError, check, format_details
from trainforge.jobfile.tree import Tree, lift_env
from trainforge.spec import JobSpec

NOW = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.UTC)
SECOND = 1.0

PARSERS = [pytest.param(yaml.SafeLoader, id="python")]
if yaml.__with_libyaml__:
    PARSERS.append(pytest.param(yaml.CSafeLoader, id="libyaml"))

FULL = yamlfile.LARGEST
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (level, level, b",".join([b"*%c" % (level - 1)] * 9))
    for level in range(ord("b"), ord("z"))
)


def refusal(data: bytes) -> list[str]:
    with pytest.raises(SpecError) as refused:
        check(yamlfile.parse(data, "job.yaml"), now=NOW)
    return format_details(refused.value.details)


def refusing_takes(data: bytes) -> float:
    """Seconds of processor time: the tests beside this one take theirs."""
    started = time.process_time()
    refusal(data)
    return time.process_time() - started


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(b"", "job.yaml:1: empty: there is no key in it", id="empty"),
        pytest.param(b"\n# only this\n", "job.yaml:1: empty: there is no key in it", id="comment"),
        pytest.param(b"a: 1\nb: \0", "job.yaml:2: a NUL character: this is no text file", id="NUL"),
        pytest.param(b"a: 1\n\nb: \xff", "job.yaml:3: not UTF-8: invalid start byte", id="bytes"),
        pytest.param(
            "a: 1".encode("utf-16"), "job.yaml:1: a NUL character: this is no text file", id="UTF-16"
        ),
        pytest.param(b"a:\n\tb: 1", "job.yaml:2: not YAML: a tab; indent with spaces", id="tab"),
        pytest.param(b"a: @b", "job.yaml:1: not YAML: a value cannot begin with @; quote it", id="at"),
        pytest.param(
            b"a: 1\nb: \x1b[31m", "job.yaml:2: the control character \\x1b: this is no text file", id="escape"
        ),
        pytest.param(
            b"- a",
            'job.yaml:1: expected a map, such as "project:" with its keys below, found a list',
            id="list",
        ),
        pytest.param(
            b"a: 1\n---\nb: 1", "job.yaml:2: a second document (---): a job file is one", id="documents"
        ),
        pytest.param(
            b"%TAG ! x\n---\na: 1",
            "job.yaml:1: YAML directives are not supported; indent the line if it belongs to a text",
            id="directive",
        ),
        pytest.param(BOMB, "job.yaml:5: more than 20000 values: this is no job file", id="bomb"),
        pytest.param(b"a: " + b"[" * 5000, "job.yaml:1: nested more than 16 deep", id="deep"),
        pytest.param(b"x" * (10 << 20), "job.yaml: larger than 256 KiB: this is no job file", id="large"),
    ],
)
def test_what_is_no_job_file_is_refused_whole(data: bytes, told: str) -> None:
    assert refusal(data) == [told]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a: b: c", "mapping values are not allowed"),
        (b"a: [b", "not YAML: "),
        (b"a: 'b", "not YAML: while scanning a quoted scalar"),
        (b"a: *b", "job.yaml:1: a: *b: nothing before it is named &b"),
        (b"a: &b [*b]", "job.yaml:1: a: *b: nothing before it is named &b"),
        (b"? [a]\n: b", "job.yaml:1: a key has to be text; this one is a list"),
        (b"a: 1\n<<: 5", "job.yaml:2: <<: expected a map, or a list of maps, found 5"),
        (b'a: "\\UFFFFFFFF"', "not YAML: "),
        (b'project: {name: "\\0"}', "job.yaml:1: project.name: "),
    ],
)
@pytest.mark.parametrize("parser", PARSERS)
def test_mistakes_in_yaml_have_their_place(
    data: bytes, told: str, parser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamlfile, "_PARSER", parser)

    assert any(told in line for line in refusal(data))


HOSTILE = [
    pytest.param(b"x" * (10 << 20), id="10 MB"),
    pytest.param(b"[" * FULL, id="deep"),
    pytest.param(b"- " * (FULL // 2), id="deep block"),
    pytest.param(BOMB, id="bomb"),
    pytest.param(b"".join(b"%%TAG !%d! x\n" % number for number in range(15_000)), id="directives"),
]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("data", HOSTILE)
def test_it_is_refused_in_under_a_second_by_either_parser(
    data: bytes, parser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamlfile, "_PARSER", parser)

    assert refusing_takes(data) < SECOND


@pytest.mark.skipif(
    not yaml.__with_libyaml__, reason="PyYAML without libyaml takes seconds on a busy machine"
)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"- *a\n" * (FULL // 5), id="aliases"),
        pytest.param(b"".join(b"k%d: 1\n" % number for number in range(9_900)), id="unknown keys"),
        pytest.param(b"a\r" * (FULL // 2), id="lines"),
        pytest.param(b"{" + b"a:," * (FULL // 3 - 2) + b"}", id="flow"),
    ],
)
def test_it_is_refused_in_under_a_second(data: bytes) -> None:
    assert refusing_takes(data) < SECOND


def test_files_that_cannot_be_opened_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        layers.load([tmp_path / "none.yaml", tmp_path, "a\0b"])

    assert [line.rpartition(": cannot be read: ")[2] for line in format_details(refused.value.details)] == [
        "No such file or directory",
        "Is a directory",
        "no such file",
    ]


def judge_refusal(error: SpecError) -> None:
    assert error.details
    assert msgspec.json.encode(error.details)
    assert all(line.isprintable() for line in format_details(error.details))


def judge(tree: Tree | dict[str, Any]) -> None:
    """What must hold whatever was given."""
    try:
        spec = check(tree, now=NOW)
    except SpecError as error:
        judge_refusal(error)
    else:
        again = msgspec.json.decode(msgspec.json.encode(spec))
        assert msgspec.convert(again, JobSpec) == spec  # every value has its declared type
        assert check(again, now=NOW) == spec


def judge_file(data: bytes) -> None:
    try:
        tree = yamlfile.parse(data, "job.yaml")
    except SpecError as error:
        judge_refusal(error)
    else:
        judge(Tree(root=lift_env(tree.root), problems=tree.problems))


KEYS = st.sampled_from(
    sorted({key for keys in SECTIONS.values() for key in keys} | set(SECTIONS) | {"env", "<<"})
)
WORDS = st.sampled_from(
    [
        "a", "train.py", "4", "0", "2-8", "-1", "010", "32Gi", "1.5G", "90s", "12h", "1:00:00",
        "22:00", "now+2h", "now+1", "2026-11-22", "2026-11-22T22:00Z", "off", "auto", "true",
        "null", "~", "isolated", "/usr/bin/python", "../x", "./ckpt/", "RANK", "A"
    ]
)  # fmt: skip
TEXTS = WORDS | st.text(max_size=20)
NUMBERS = st.integers() | st.floats() | st.booleans() | st.none()
VALUES = st.recursive(
    TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXTS, inner, max_size=4),
)
SOUND = st.fixed_dictionaries(
    {"project": st.fixed_dictionaries({"name": st.just("a")}), "training": st.just({"command": ["x"]})},
    optional={
        section: st.dictionaries(st.sampled_from(sorted(keys)), VALUES, max_size=3)
        for section, keys in SECTIONS.items()
        if section not in ("project", "training")
    },
)
YAML_TEXT = st.lists(
    KEYS
    | TEXTS
    | st.sampled_from(
        [*" \n\t:-[]{},&*!|>'\"%@`#?", "\n  ", ": ", "- ", "---\n", "!!str ", "&a ", "*a", "<<: "]
    )
).map("".join)

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    judge_file(data)


@FUZZ
@given(YAML_TEXT)
def test_anything_like_yaml(text: str) -> None:
    judge_file(text.encode("utf-8", "surrogatepass"))


@FUZZ
@given(st.dictionaries(KEYS | TEXTS, VALUES, max_size=5) | SOUND)
def test_any_object(value: dict[str, Any]) -> None:
    judge(value)


@FUZZ
@given(SOUND)
def test_any_object_written_as_yaml(value: dict[str, Any]) -> None:
    judge_file(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass"))


@FUZZ
@given(
    st.lists(st.builds("{}.{}={}".format, KEYS, KEYS | TEXTS, TEXTS) | TEXTS, max_size=3),
    st.lists(st.builds("{}={}".format, TEXTS, TEXTS), max_size=2),
    st.lists(st.builds("{}={},{}".format, KEYS | TEXTS, TEXTS, TEXTS), max_size=2),
)
def test_any_flags(sets: list[str], envs: list[str], sweeps: list[str]) -> None:
    base = {"project": {"name": "a"}, "training": {"script": "a"}}
    try:
        points = layers.grid(layers.load(base=base, sets=sets, envs=envs), sweeps)
    except SpecError as error:
        judge_refusal(error)
    else:
        for point in points[:3]:
            judge(point.tree)
