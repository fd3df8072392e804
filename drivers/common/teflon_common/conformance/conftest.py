"""Fixtures of the kit: the opened device, its expectations, the judgement of outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teflon.errors import TeflonError
from teflon_common.conformance.bench import Bench, Outcome, Status
from teflon_common.conformance.expectations import Expectations

Report = Callable[[str, str, str, Outcome], None]
Run = Callable[[], Outcome]


def devices(config: pytest.Config) -> list[str]:
    """Return the specs of the devices under test: of the command line, else of the project."""
    found = config.getoption("npu_device") or config.getini("npu_devices")
    if not found:
        raise pytest.UsageError(
            "--npu-device: is missing, must name the device under test, e.g. sim:rk3588"
        )
    return list(dict.fromkeys(found))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test for each device."""
    if "bench" in metafunc.fixturenames:
        specs = devices(metafunc.config)
        metafunc.parametrize("bench", specs, indirect=True, ids=specs, scope="session")


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The device under test, which is opened once."""
    try:
        options = dict(_option(text) for text in request.config.getoption("npu_option"))
        opened = Bench.open(request.param, options)
    except TeflonError as error:
        pytest.exit(f"--npu-device={request.param}: {error}", pytest.ExitCode.USAGE_ERROR)
    with opened.context:
        yield opened


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        pytest.exit(
            f"--npu-option: is {text!r}, must be NAME=VALUE", pytest.ExitCode.USAGE_ERROR
        )  # fmt: skip
    return name, value


@pytest.fixture(scope="session")
def expectations(bench: Bench, request: pytest.FixtureRequest) -> Expectations:
    """The lists of known failures of the device under test."""
    named = request.config.getoption("npu_expectations")
    folder = Path(named) if named else None
    if not named and (configured := request.config.getini("npu_expectations")):
        folder = request.config.rootpath / configured
    try:
        return Expectations.read(folder, bench.name)
    except TeflonError as error:
        pytest.exit(str(error), pytest.ExitCode.USAGE_ERROR)


@pytest.fixture
def judge(
    bench: Bench, expectations: Expectations, record_property: Callable[[str, object], None]
) -> Callable[[str, str, str, Run], None]:
    """A function that runs a case, reports its outcome, and lets the test pass, fail or skip."""

    def judge_case(name: str, op: str, form: str, run: Run) -> None:
        if expectations.skips_it(name):
            pytest.skip("expectations: must not be run")
        outcome = run()
        row = {"op": op, "form": form, "status": outcome.status.value, "reason": outcome.reason}
        record_property("npu", {"device": bench.name, "case": name, "row": row})
        if problem := expectations.verdict(name, outcome):
            if expectations.is_flake(name):
                pytest.xfail(f"flake: {problem}")
            pytest.fail(f"{bench.name}: {name}: {problem}", pytrace=False)
        if outcome.status is Status.SKIP:
            pytest.skip(outcome.reason)
        if outcome.status is not Status.PASS:
            pytest.xfail(outcome.reason)

    return judge_case
