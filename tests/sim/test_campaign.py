"""Random programs: what they are as data, how they are drawn, and that devices run them alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings

import siligrad as sg
from siligrad import tree
from siligrad.compiler import CapacityError
from siligrad.device import device_class
from siligrad.errors import DataError, SiligradError
from siligrad.isa import Geometry, Loop, Memory, Rounding
from siligrad_sim.campaign.case import BareCase, Case, NetworkCase, digest, from_json, to_json
from siligrad_sim.campaign.differential import Machines, compare, written
from siligrad_sim.campaign.drawing import campaign_geometry, cases
from siligrad_sim.campaign.networks import network
from siligrad_sim.campaign.sampling import SUITE_GEOMETRIES, SUITE_PROGRAMS, for_each_case
from siligrad_sim.campaign.trial import REFUSALS, Trial, draw_codes, trial_of
from siligrad_sim.reference import ReferenceDevice

TINY = campaign_geometry(2)
NETWORK = NetworkCase(
    geometry=TINY,
    rounding=Rounding.HALF_EVEN,
    update_rounding=Rounding.STOCHASTIC,
    widths=(3, 4, 2),
    batch=3,
    biases=(True, False),
    shared=False,
    residual="none",
    times=1,
    modules=False,
    frozen=False,
    loss="hinge",
    rate=5,
    output="predictions",
    formats="max",
    headroom=1,
    steps=2,
    runs=2,
    inputs="example",
    parameters="example",
    leftover="random",
    seed=3,
)
BARE = BareCase(TINY, 3, (True, False, True), steps=2, runs=2, contents="coarse", seed=5)


@pytest.fixture
def machines() -> Iterator[Machines]:
    with Machines() as opened:
        yield opened


def skip_without(device: str) -> None:
    reason = device_class(device).available()
    if reason is not None:
        pytest.skip(reason)


# Hardware beside the reference.


def run_random(
    machines: Machines, geometry: Geometry, device: str, count: int, first_seed: int = 0
) -> Counter[str]:
    """Run random programs on a device, and return what they were."""
    seen: Counter[str] = Counter()

    def check(case: Any) -> None:
        try:
            trial = trial_of(case)
        except REFUSALS:
            seen["discarded"] += 1
            reject()  # another is drawn
        result = machines.compare(trial, device)
        assert result.mismatch is None, f"{result.mismatch}\n{json.dumps(to_json(case))}"
        words = sum(geometry.depth(memory) for memory in Memory) * geometry.array
        assert result.words == case.runs * words
        assert result.cycles == case.runs * trial.program.cycles
        seen[type(case).__name__] += 1
        seen["saturations"] += result.saturations

    for_each_case(check, geometry, count, first_seed=first_seed)
    return seen


@pytest.mark.parametrize(
    "geometry",
    [
        pytest.param(geometry, marks=pytest.mark.extended if geometry.array == 7 else ())
        for geometry in SUITE_GEOMETRIES
    ],
    ids=lambda each: str(each.array),
)
def test_random_programs_run_on_the_hardware_as_on_the_reference(
    machines: Machines, geometry: Geometry
) -> None:
    skip_without("verilator")
    seen = run_random(machines, geometry, "verilator", SUITE_PROGRAMS)
    assert seen["NetworkCase"] + seen["BareCase"] == SUITE_PROGRAMS  # 216 for six of the seven
    assert min(seen["NetworkCase"], seen["BareCase"], seen["saturations"]) > 0
    assert seen["discarded"] <= SUITE_PROGRAMS / 6


def test_a_second_simulator_agrees(machines: Machines) -> None:
    skip_without("pysim")
    seen = run_random(machines, TINY, "pysim", 3, first_seed=1000)
    assert seen["NetworkCase"] + seen["BareCase"] >= 2


def test_every_kind_of_network_is_drawn_and_hardly_one_is_refused() -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=250,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(SUITE_GEOMETRIES))
    def draw(case: Any) -> None:
        try:
            trial_of(case)
        except REFUSALS as error:
            seen["refused"] += 1
            seen[type(error).__name__] += 1
        seen["all"] += 1
        if isinstance(case, NetworkCase):
            multiple = all(width % case.geometry.array == 0 for width in case.widths)
            seen[f"loss {case.loss}"] += 1
            seen[f"residual {case.residual}"] += 1
            seen[f"output {case.output}"] += 1
            seen[f"formats {case.formats}"] += 1
            seen[f"inputs {case.inputs}"] += 1
            seen["recurrent"] += case.times > 1
            seen["shared"] += case.shared
            seen["frozen"] += case.frozen
            seen["ragged"] += not multiple
            seen["several steps"] += case.steps > 1

    draw()
    assert seen["all"] >= 250
    assert seen["refused"] <= seen["all"] / 20
    for what in (
        *("loss hinge", "loss squares", "loss none", "residual before", "residual after"),
        *("output predictions", "output activations", "output input gradient", "output margins"),
        *("output errors", "formats declared", "formats mse", "inputs zeros", "inputs largest"),
        *("recurrent", "shared", "frozen", "ragged", "several steps"),
    ):
        assert seen[what] > 0, what


# Cases.


@settings(max_examples=100, phases=[Phase.generate])
@given(case=cases(SUITE_GEOMETRIES))
def test_a_case_survives_json(case: Any) -> None:
    text = json.dumps(to_json(case))
    again = from_json(json.loads(text))
    assert again == case
    assert digest(again) == digest(case)


def test_cases_that_differ_have_other_digests() -> None:
    same: list[Case] = [NETWORK, replace(NETWORK, seed=4), replace(NETWORK, batch=4), BARE]
    assert len({digest(case) for case in same}) == 4


def changed(**fields: Any) -> dict[str, Any]:
    return {**to_json(NETWORK), **fields}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], "a case is an object of JSON, not list"),
        ({}, "a case is of a kind 'bare', 'network', not None"),
        ({"kind": ["bare"]}, "a case is of a kind"),
        (changed(batch=0), "batch must be from 1 to 256, not 0"),
        (changed(batch=True), "batch must be of type int, not True"),
        (changed(widths=[3, 4, 1000]), "a width must be from 1 to 256, not 1000"),
        (changed(widths=[3]), "the number of widths must be from 2 to 6, not 1"),
        (changed(widths="345"), "widths must be of type list"),
        (changed(biases=[True]), "biases must say for each of 2 layers"),
        (changed(loss="absolute"), "loss must be one of 'hinge', 'squares', 'none'"),
        (changed(rounding=7), "rounding must be from 0 to 3, not 7"),
        (changed(extra=1), "too many or too few is extra"),
        (changed(seed=-1), "seed must be from 0"),
        (changed(runs=1000), "runs must be from 1 to 16, not 1000"),
        (changed(geometry={"array": 2}), "too many or too few is e_depth"),
        (changed(geometry={**to_json(NETWORK)["geometry"], "array": 99}), "array must be from 2"),
        ({**to_json(BARE), "kept": [False] * 3}, "kept must say for each of 3 instructions"),
        ({**to_json(BARE), "contents": "example"}, "bare instructions have no examples"),
        ({**to_json(BARE), "instructions": 1000}, "instructions must be from 1 to 32, not 1000"),
    ],
)
def test_what_is_no_case_is_refused(item: Any, message: str) -> None:
    with pytest.raises(SiligradError, match=message):
        from_json(item)


def test_a_case_follows_from_the_seed_alone_whatever_is_loaded() -> None:
    """Hypothesis puts numbers of loaded modules among those that it draws: not here."""
    script = """
import sys
if sys.argv[1:]:
    import {more}
from hypothesis import HealthCheck, Phase, given, seed, settings
from siligrad_sim.campaign.case import digest
from siligrad_sim.campaign.drawing import campaign_geometry, cases

@seed(11)
@settings(max_examples=40, database=None, deadline=None, phases=[Phase.generate],
          suppress_health_check=list(HealthCheck))
@given(case=cases([campaign_geometry(3)]))
def show(case):
    print(digest(case))

show()
"""
    more = "siligrad_cli.train, siligrad.explain, siligrad_sim.pysim, siligrad_hdl.accelerator"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script.replace("{more}", more), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for arguments in ([], ["more"])
    ]
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split())) > 30


# What follows from them.


def same_trials(first: Trial, second: Trial) -> bool:
    return (
        first.program.to_bytes() == second.program.to_bytes()
        and first.seed == second.seed
        and all(numpy.array_equal(first.leftover[each], second.leftover[each]) for each in Memory)
        and all(
            numpy.array_equal(a, b)
            for one, two in zip(first.runs, second.runs, strict=True)
            for a, b in zip(one, two, strict=True)
        )
    )


@pytest.mark.parametrize("case", [NETWORK, BARE], ids=["network", "bare"])
def test_a_trial_is_always_the_same_and_another_seed_gives_another(case: Any) -> None:
    assert same_trials(trial_of(case), trial_of(case))
    assert not same_trials(trial_of(case), trial_of(replace(case, seed=case.seed + 1)))


def test_instructions_that_are_left_out_leave_the_others_as_they_were() -> None:
    every = trial_of(replace(BARE, kept=(True, True, True))).program.instructions
    some = trial_of(BARE).program.instructions
    assert [replace(each, delay=0) for each in some] == [
        replace(every[index], delay=0) for index in (0, 2)
    ]


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({}, "predictions"),
        ({"shared": True, "widths": (3, 4, 4, 4, 2), "biases": (True,) * 4}, "none"),
        ({"residual": "before", "widths": (4, 4, 2)}, "activations"),
        ({"residual": "after", "widths": (4, 4, 4, 2), "biases": (True,) * 3}, "none"),
        ({"times": 3}, "predictions"),
        ({"modules": True, "frozen": True}, "none"),
        ({"loss": "squares"}, "errors"),
        ({"loss": "none"}, "activations"),
        ({}, "margins"),
        ({}, "input gradient"),
    ],
)
def test_a_case_is_compiled_to_the_network_that_it_describes(
    change: dict[str, Any], output: Any
) -> None:
    """The reference's result is that of floating point, but for rounding."""
    fields = {"steps": 1, "runs": 1, "headroom": 1, "rounding": Rounding.HALF_EVEN, **change}
    fields |= {"batch": 4, "update_rounding": Rounding.HALF_EVEN}  # a rate that is not rounded
    case = replace(NETWORK, output=output, **fields)
    made, trial = network(case), trial_of(case)
    device = ReferenceDevice(trial.program.geometry)
    device.load(trial.program)
    device.run(*trial.inputs(0))
    want = tree.flatten(made.function(*made.examples[0]))[0]
    got = tree.flatten(device.read())[0]
    assert len(got) == len(want) > 0
    for index, value, expected in zip(trial.program.result.tensors, got, want, strict=True):
        tensor = trial.program.tensors[index]
        tolerance = 12 * tensor.format.resolution * abs(tensor.scale)
        numpy.testing.assert_allclose(value, expected, atol=tolerance, rtol=0)


def test_contents_are_what_they_are_called() -> None:
    rng = numpy.random.default_rng(0)
    drawn = {kind: draw_codes(rng, (50, 4), 1000, kind) for kind in KINDS}
    assert not drawn["zeros"].any()
    assert set(numpy.abs(drawn["largest"]).ravel()) == {1000}
    assert (drawn["coarse"] % 16 == 0).mean() > 0.9
    for codes in drawn.values():
        assert numpy.abs(codes).max() <= 1000
    assert len(numpy.unique(drawn["random"])) > 150


KINDS: Any = ("zeros", "largest", "coarse", "random")


def test_formats_that_rules_never_agree_on_are_refused() -> None:
    # A random program on which choosing formats once did not end.
    case = replace(
        NETWORK,
        geometry=campaign_geometry(6, 8),
        widths=(1, 12, 12, 12, 12),
        batch=7,
        biases=(True,) * 4,
        residual="after",
        times=3,
        loss="squares",
        rate=2,
        output="none",
        formats="declared",
        headroom=2,
        steps=3,
        seed=36102,
    )
    with pytest.raises(sg.LoweringError, match=r"no formats satisfy .* and what is added to it"):
        trial_of(case)


# Where a word was written.


@pytest.mark.parametrize("steps", [1, 3])
def test_a_word_is_written_where_the_reference_changes_it_and_the_last_two_cycles_before_the_end(
    steps: int,
) -> None:
    trial = trial_of(replace(BARE, kept=(True, True, True), steps=steps, runs=1))
    program, geometry = trial.program, trial.program.geometry
    latest = 0
    changed = missed = 0
    # What one of two fills leaves as it was, the other changes.
    for fill in (1, 2):
        device = ReferenceDevice(geometry)
        for memory in Memory:
            words = numpy.full((geometry.depth(memory), geometry.array), fill, numpy.int32)
            device.write_words(memory, 0, words)
        device.load(program)
        device.run()
        for memory, words in device.dump().items():
            for (address, bank), word in numpy.ndenumerate(words):
                found = written(program, memory, address, bank)
                if found is None:
                    assert word == fill, (memory, address, bank)
                    continue
                latest = max(latest, found.cycle)
                changed += word != fill
                missed += word == fill
    assert changed > missed
    assert latest == program.cycles - 2  # docs/spec/isa.md, Time


def test_a_device_that_never_ends_is_a_difference() -> None:
    class Endless(ReferenceDevice):
        def execute(self, loop: Loop, limit: int) -> int:
            raise sg.DeviceError(f"endless: still running after {limit} cycles")

    trial = trial_of(NETWORK)
    result = compare(trial, Endless(TINY))
    assert result.mismatch is not None
    assert "still running after" in str(result.mismatch)
    assert result.runs == 0


def test_leftovers_are_on_both_sides_and_are_compared() -> None:
    class Forgetful(ReferenceDevice):
        def write_words(self, memory: Memory, address: int, words: Any) -> None:
            if len(words) < self.geometry.depth(memory):  # what a program owns, not all there is
                super().write_words(memory, address, words)

    result = compare(trial_of(replace(NETWORK, leftover="largest")), Forgetful(TINY))
    assert result.mismatch is not None
    assert "a word that nothing owns" in result.mismatch.message


def test_a_case_too_large_for_its_machine_is_refused() -> None:
    small = replace(TINY, x_depth=2, w_depth=2, e_depth=2)
    with pytest.raises(CapacityError, match="words a bank over"):
        trial_of(replace(NETWORK, geometry=small))
    with pytest.raises(DataError, match="batch must be"):
        replace(NETWORK, batch=300)
