"""``dethead evaluate`` with ``--oracles``, and with ``--flip``."""

import json

import pytest


def test_oracles_are_printed_and_written_beside_the_numbers_as_they_are(
    dethead, tiny_run, tiny_data, tmp_path
):
    file = tmp_path / "numbers.json"
    arguments = ("--data", tiny_data, "--device", "cpu", "--workers", 0, "--json", file, "--batch-size", 3)
    status, said, err = dethead("evaluate", tiny_run, *arguments, "--oracles")
    assert status == 0, err
    assert "AP gained" in said
    found = json.loads(file.read_text())
    best = json.loads((tiny_run / "metrics.json").read_text())["best"]
    assert found["AP"] == pytest.approx(best["AP"], abs=1e-9)
    assert [*found["oracles"]] == ["class", "confidence", "box", "all"]
    # Every rectangle has an anchor: with all branches true, all are found.
    assert found["oracles"]["all"]["AP"] > 0.99
    assert found["oracles"]["all"]["AP"] > found["AP"]
    assert len(found["oracles"]["class"]["per_class"]) == 3


def test_without_the_option_there_are_none(dethead, tiny_run, tiny_data, tmp_path):
    file = tmp_path / "numbers.json"
    arguments = ("--data", tiny_data, "--device", "cpu", "--workers", 0, "--json", file)
    _, said, _ = dethead("evaluate", tiny_run, *arguments)
    assert "AP gained" not in said
    found = json.loads(file.read_text())
    assert "oracles" not in found
    assert "flip" not in found


def test_numbers_with_mirror_images_are_others_and_say_so(dethead, tiny_run, tiny_data, tmp_path):
    file = tmp_path / "numbers.json"
    arguments = ("--data", tiny_data, "--device", "cpu", "--workers", 0, "--json", file)
    status, _, err = dethead("evaluate", tiny_run, *arguments, "--flip")
    assert status == 0, err
    found = json.loads(file.read_text())
    best = json.loads((tiny_run / "metrics.json").read_text())["best"]
    assert found["flip"] is True
    assert found["AP"] != best["AP"]
