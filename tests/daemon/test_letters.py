"""What letters say, and who gets which."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path
from typing import Any

import pytest

from tests.client.topping import job as view
from tests.daemon.telling import NOW, event, failed, incident, letter
from trainforge.api import JobView
from trainforge.jobfile.checks import SpecError, check
from trainforge.spec import Notify
from trainforge.states import JobState
from trainforged import config
from trainforged.config import ConfigError
from trainforged.daemon.notices.delivery import body, mail
from trainforged.daemon.notices.letters import Way, letters, notice, ways


def test_a_failure_is_told_with_all_that_is_known_of_it() -> None:
    told = notice(event(), failed(), incident(), "box")
    assert told.subject == "job 3 (job-3) failed (user error): ValueError: no"
    assert told.text == "\n\n".join(
        [
            "job 3 (job-3) failed (user error): ValueError: no",
            "it happened",
            "rank 1 failed first",
            "rank 1 raised ValueError: no",
            "Traceback (most recent call last):\n  File …\nValueError: no",
            "last reported: step 40/100, loss 1.235",
            "attempt 1: hang, stood still; started again, retry 1 of 3\n"
            "attempt 2: user_error, no; not started again: hopeless",
            "mend it, then: tfctl retry 3",
            "on box; tfctl why 3",
        ]
    )
    assert (told.job, told.state, told.reason, told.user) == (3, "failed", "user_error", "alice")


def test_of_a_lone_attempt_it_is_told_what_was_done() -> None:
    lone = incident(tried=incident().tried[1:])
    assert "\n\nnot started again: hopeless\n\n" in notice(event(), failed(), lone, "box").text


@pytest.mark.parametrize(
    ("type", "message", "job", "subject"),
    [
        ("job_succeeded", "succeeded", view(3, JobState.SUCCEEDED), "job 3 (job-3) succeeded after 60 s"),
        ("job_cancelled", "cancelled", view(3, JobState.CANCELLED), "job 3 (job-3) was cancelled after 60 s"),
        (
            "hang_found",
            "has reported nothing for 12 min",
            view(3),
            "job 3 (job-3) has reported nothing for 12 min",
        ),
        ("waste_noticed", "holds GPU 1", view(3), "job 3 (job-3) holds GPU 1"),
        ("job_failed", "gone", None, "job 3: gone"),
    ],
)
def test_each_event_has_its_sentence(type: str, message: str, job: JobView | None, subject: str) -> None:
    assert notice(event(type, message), job, None, "box").subject == subject


def test_a_gpu_is_told_of_without_a_job() -> None:
    told = notice(event("gpu_set_aside", "GPU 1 set aside: XID 79", job=None), None, None, "box")
    assert (told.subject, told.text) == (
        "GPU 1 set aside: XID 79",
        "GPU 1 set aside: XID 79\n\non box; tfctl gpus",
    )


def test_what_a_job_says_steers_nothing() -> None:
    evil = "\x1b[2J<!channel> @everyone ```\r\nBcc: x@y\n" + "x" * 100_000
    told = notice(event(message=evil), failed(), incident(evidence=(evil,)), "box")
    assert "\x1b" not in told.text
    assert "\n" not in told.subject
    assert len(told.text) <= 12_000
    slack = body(letter("slack", "https://x", notice=told))
    assert "<!channel>" not in slack["text"]
    discord = body(letter("discord", "https://x", notice=told))
    assert len(discord["content"]) < 2000
    assert discord["content"].count("```") == 2
    assert discord["allowed_mentions"] == {"parse": []}
    message = email.message_from_string(mail(told, "a@b"), policy=email.policy.default)
    assert message["Bcc"] is None
    assert message["To"] == "a@b"


def test_a_way_is_used_for_what_it_was_named_for() -> None:
    notify = Notify(on=("failure", "gpu"), webhook=("https://a", "https://b"), desktop=True, command=("x",))
    assert list(ways(notify, "job_succeeded")) == []
    assert [way for way, _ in ways(notify, "job_failed")] == ["command", "webhook", "webhook", "desktop"]
    assert len(list(ways(notify, "gpu_set_aside"))) == 4
    assert list(ways(Notify(), "job_failed")) == []
    assert list(ways(notify, "checkpoint_saved")) == []


def test_the_same_way_twice_is_one_letter_and_ids_stay() -> None:
    told = notice(event(), failed(), incident(), "box")
    to: list[tuple[Way, tuple[str, ...]]] = [("webhook", ("a",)), ("slack", ("a",)), ("webhook", ("a",))]
    made = letters(told, to, 5.0)
    assert [(one.id, one.way) for one in made] == [("000000000007-0", "webhook"), ("000000000007-1", "slack")]
    assert letters(told, to, 6.0)[0].id == made[0].id


# ---------------------------------------------------------------- settings


def spec(**notify: Any) -> Notify:
    tree = {"project": {"name": "x"}, "training": {"command": ["true"]}, "notify": notify}
    return check(tree, now=NOW).notify


def test_the_job_file_names_ways() -> None:
    found = spec(on=["end"], webhook="https://a/b", mail=["a@b.org", "root"], desktop=True, command="echo hi")
    assert found == Notify(
        on=("end",), webhook=("https://a/b",), mail=("a@b.org", "root"), desktop=True,
        command=("/bin/sh", "-c", "echo hi"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("notify", "path"),
    [
        ({"on": ["ends"]}, "notify.on[0]"),
        ({"on": "end"}, "notify.on"),
        ({"webhook": "file:///etc/passwd"}, "notify.webhook"),
        ({"slack": ["https://a b"]}, "notify.slack[0]"),
        ({"mail": "-oQ/tmp a@b"}, "notify.mail"),
        ({"mail": "a@b\nBcc: c@d"}, "notify.mail"),
        ({"desktop": "perhaps"}, "notify.desktop"),
        ({"telegram": "x"}, "notify.telegram"),
    ],
)
def test_a_mistake_is_refused_with_its_place(notify: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(**notify)
    assert [detail.path for detail in error.value.details] == [path]


def test_the_daemons_settings_name_ways_for_all_and_for_each_user(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "notify: {slack: 'https://s', on: [gpu], wait: 2h, users: {bob: {command: say, on: [end]}}}"
    )
    found = config.load(file).notify
    assert found.spec() == Notify(on=("gpu",), slack=("https://s",))
    assert found.users["bob"].spec() == Notify(on=("end",), command=("/bin/sh", "-c", "say"))
    assert float(found.wait) == 7200
    file.write_text("notify: {on: [sometimes]}")
    with pytest.raises(ConfigError, match=r"notify\.on"):
        config.load(file)
