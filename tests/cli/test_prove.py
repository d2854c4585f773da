from __future__ import annotations

import json

import pytest

from siligrad_cli.main import main
from siligrad_sim.formal import catalogue, tools
from siligrad_sim.formal.proof import Proof, Verdict


def holds(array: int) -> Verdict:
    return Verdict(True, f"covered {array}")


def fails(array: int) -> Verdict:
    return Verdict(False, f"7 at {array}")


SOUND = Proof("sound", "all of it", holds, {"a fault": fails}, per_array=True)
WRONG = Proof("wrong", "none of it", fails, {"a fault": fails})
BLIND = Proof("blind", "whatever", holds, {"a fault": fails, "another": holds})


def with_proofs(monkeypatch: pytest.MonkeyPatch, *proofs: Proof) -> None:
    monkeypatch.setattr(catalogue, "PROOFS", proofs)


def test_a_real_proof_is_run_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "--only", "accumulator", "ports", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert out.index("ports") < out.index("accumulator")  # in the order of the catalogue
    assert "control: the bound has a term too few: caught" in out
    assert "control: rule 3 allows one cycle less, in the checker: caught" in out
    assert out.endswith("2 of 2 proofs hold, with every fault noticed\n")


def test_each_size_is_proved_of_what_depends_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_proofs(monkeypatch, SOUND, Proof("any", "of any size", holds, {"a fault": fails}))
    assert main(["prove", "--array", "4,8", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [(item["proof"], item["array"]) for item in records] == [
        ("sound", 4),
        ("sound", 8),
        ("any", None),
    ]
    assert records[0]["scope"] == "all of it"
    assert records[0]["reason"] == "covered 4"
    assert records[0]["controls"] == {"a fault": {"caught": True, "found": "7 at 4"}}


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        (WRONG, ["wrong", "FAILED", "counterexample: 7 at 4", "0 of 1 proofs hold"]),
        (BLIND, ["proved", "control: another: NOT CAUGHT", "a fault: caught, 7 at 4", "0 of 1"]),
    ],
)
def test_a_proof_that_fails_or_notices_nothing_is_an_error(
    proof: Proof,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_proofs(monkeypatch, proof)
    assert main(["prove"]) == 1
    out = capsys.readouterr().out
    for word in words:
        assert word in out


def test_a_proof_that_does_not_exist_is_named_beside_those_that_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_proofs(monkeypatch, SOUND, WRONG)
    assert main(["prove", "--only", "sound", "souns"]) == 1
    assert capsys.readouterr().err == (
        "siligrad: there is no proof 'souns'; there are sound, wrong\n"
    )


def test_a_missing_tool_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools, "tools_missing", lambda: "z3 is missing, which proofs need")
    assert main(["prove"]) == 1
    assert capsys.readouterr().err == "siligrad: z3 is missing, which proofs need\n"


@pytest.mark.parametrize("sizes", ["1", "4,17", "4,", "x"])
def test_a_size_that_no_array_has_is_refused(
    sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["prove", "--array", sizes])
    assert "an array has a size from 2 to 16, not '" in capsys.readouterr().err
