"""Device specs: what each names, and what a wrong one gets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from teflon import devices
from teflon.devices import DeviceInfo, open_device
from teflon.errors import DeviceError, DriverUnavailable, OptionError, TeflonError
from teflon.pipe import Context, Node, Option
from teflon.plugins import Registry
from tests.contract.helpers import FakeDevice, FakeDriver

GOOD = Node("/dev/accel/accel1", "beta", "b1")
BAD = Node("/dev/accel/accel0", "alpha", "a1", "may not be opened", "add yourself to group render")
OPTIONS = {
    "strategy": Option("which rules", ("exact", "mesa"), "exact"),
    "anything": Option("free text"),
}
SIMULATORS = "name a simulated chip or the reference: sim:a1, sim:a2, sim:b1, cpu"

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put drivers and broken plugins in the place of those that are installed."""
    monkeypatch.delenv("TEFLON_DEVICE", raising=False)

    def put(*nodes: Node, broken: dict[str, str] | None = None) -> None:
        alpha, beta = (tuple(n for n in nodes if n.driver == d) for d in ("alpha", "beta"))
        drivers = [
            FakeDriver("beta", "B", ("b1",), {}, nodes=beta),
            FakeDriver("alpha", "A", ("a1", "a2"), OPTIONS, nodes=alpha),
            FakeDriver("cpu", "C", ("cpu",), nodes=(Node("cpu", "cpu", "cpu"),),
                       chip_device=FakeDevice(driver="cpu", chip="cpu")),
        ]  # fmt: skip
        registry = Registry({d.name: d for d in drivers}, broken or {})
        monkeypatch.setattr(devices, "discover", lambda: registry)

    return put


def test_auto_takes_the_first_usable_node(install: Install) -> None:
    install(BAD, GOOD)
    device, context = open_device("auto")
    assert context is not None
    assert device is context.device


def test_auto_without_an_npu_lists_what_was_tried(install: Install) -> None:
    install(BAD, broken={"gamma": "ImportError: no gamma"})
    expected = (
        "device auto: no NPU was found (alpha: /dev/accel/accel0: may not be opened"
        " (add yourself to group render); beta: neither a node nor a device tree entry was found"
        " (B); gamma: broken: ImportError: no gamma);"
        f" to run without an NPU, {SIMULATORS}"
    )
    with pytest.raises(DriverUnavailable, match=f"^{re.escape(expected)}$"):
        open_device("auto")


def test_auto_uses_the_variable(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(BAD, GOOD)
    monkeypatch.setenv("TEFLON_DEVICE", "a2")
    assert open_device("auto")[1] is None
    assert open_device("")[1] is None
    assert open_device("sim:b1")[1] is not None  # a spec that was given wins


@pytest.mark.parametrize("spec", ["beta", "cpu", "/dev/accel/accel1", "sim:a1", " sim:b1 "])
def test_specs_that_open(spec: str, install: Install) -> None:
    install(BAD, GOOD)
    assert open_device(spec)[1] is not None


def test_a_chip_is_a_description(install: Install) -> None:
    install()
    device, context = open_device("a2")
    assert context is None
    assert device.chip == "f1"


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("alpha", DriverUnavailable, "device alpha: /dev/accel/accel0: may not be opened (add"
         " yourself to group render); sim:a1 simulates it"),
        ("/dev/accel/accel0", DriverUnavailable, "device /dev/accel/accel0: may not be opened (add"
         " yourself to group render)"),
        ("/dev/accel/accel9", DriverUnavailable, "device /dev/accel/accel9: no driver knows this"
         " node; known nodes: /dev/accel/accel0, /dev/accel/accel1"),
        ("gamma", DriverUnavailable, "gamma: the driver is broken: ImportError: no gamma"),
        ("sim:a3", OptionError, "device 'sim:a3': is not known, must be one of auto, alpha, beta,"
         " cpu, sim:a1, sim:a2, sim:b1, a1, a2, b1, a node's path (did you mean sim:a2?); driver"
         " gamma is broken: ImportError: no gamma"),
    ],
)  # fmt: skip
def test_specs_that_cannot_be_opened(
    spec: str, error: type[TeflonError], message: str, install: Install
) -> None:
    install(BAD, GOOD, broken={"gamma": "ImportError: no gamma"})
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        open_device(spec)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("sim:a1", {"stratgy": "mesa"}, "option 'stratgy': driver alpha does not know it, it takes"
         " strategy, anything (did you mean strategy?)"),
        ("a1", {"strategy": "meza"}, "option strategy: is 'meza', must be one of exact, mesa (did"
         " you mean mesa?)"),
        ("b1", {"x": 1}, "option 'x': driver beta does not know it, it takes none"),
        ("beta", {"x": 1}, "option 'x': driver beta does not know it, it takes none"),
    ],
)  # fmt: skip
def test_options_are_checked(
    spec: str, options: dict[str, object], message: str, install: Install
) -> None:
    install(GOOD)
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        open_device(spec, options)


def test_good_options_pass(install: Install) -> None:
    install()
    open_device("sim:a1", {"strategy": "mesa", "anything": 3})


def test_a_probe_that_raises_does_not_affect_other_drivers(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(GOOD)
    beside = FakeDriver.probe

    def probe(self: FakeDriver, root: str = "/") -> list[Node]:
        if self.name == "alpha":
            raise OSError("no /sys here")
        return beside(self, root)

    monkeypatch.setattr(FakeDriver, "probe", probe)
    assert open_device("auto")[1] is not None
    expected = "device alpha: the driver's probe failed, OSError: no /sys here; sim:a1 simulates it"
    with pytest.raises(DriverUnavailable, match=f"^{re.escape(expected)}$"):
        open_device("alpha")


def test_list_of_devices(install: Install) -> None:
    install(BAD, GOOD, broken={"gamma": "ImportError: no gamma"})
    rows = devices.devices()
    assert DeviceInfo(BAD.path, "alpha", "a1", "node", BAD.problem, BAD.cure) in rows
    assert [(r.spec, r.kind) for r in rows if r.driver == "beta"] == [
        ("/dev/accel/accel1", "node"),
        ("sim:b1", "simulated"),
        ("b1", "description"),
    ]
    assert [r.spec for r in rows if r.driver == "cpu"] == ["cpu"]
    (broken,) = [r for r in rows if r.kind == "broken"]
    assert (broken.spec, broken.problem, broken.usable) == ("gamma", "ImportError: no gamma", False)


class Opened(FakeDriver):
    """Says which of its nodes was opened."""

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        raise DeviceError(f"opened {node.path} {dict(options or {})}")


class Raising(FakeDriver):
    def probe(self, root: str = "/") -> list[Node]:
        raise OSError("no bus of this kind")


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two devices of one driver, one of another, and a plugin that cannot look."""
    nodes = tuple(Node(f"/dev/dri/renderD{n}", "beta", "b1") for n in (129, 128))
    drivers = [
        Opened("gamma", "G", ("g1",), nodes=(Node("/dev/accel/accel0", "gamma", "g1"),)),
        Opened("beta", "B", ("b1",), OPTIONS, nodes=nodes),
        Raising("alpha", "A", ("a1",)),
        Opened("cpu", "C", ("cpu",), nodes=(Node("cpu", "cpu", "cpu"),)),
    ]
    monkeypatch.delenv("TEFLON_DEVICE", raising=False)
    monkeypatch.setattr(devices, "discover", lambda: Registry({d.name: d for d in drivers}, {}))


@pytest.mark.parametrize(
    ("spec", "variable", "opened"),
    [
        ("auto", "", "/dev/dri/renderD129"),  # alphabetical; the driver's own order of nodes
        ("auto", "gamma", "/dev/accel/accel0"),
        ("auto", "/dev/dri/renderD128", "/dev/dri/renderD128"),
        ("gamma", "beta", "/dev/accel/accel0"),  # what is named wins
        ("/dev/dri/renderD128", "gamma", "/dev/dri/renderD128"),
        ("auto", "cpu", "cpu"),
    ],
)
@pytest.mark.usefixtures("several")
def test_which_of_several_devices(
    spec: str, variable: str, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEFLON_DEVICE", variable)
    with pytest.raises(DeviceError, match=f"^opened {opened} {{}}$"):
        open_device(spec)


@pytest.mark.usefixtures("several")
def test_options_go_to_the_chosen_device() -> None:
    with pytest.raises(DeviceError, match=r"renderD129 \{'strategy': 'mesa'\}$"):
        open_device("auto", {"strategy": "mesa"})


@pytest.mark.usefixtures("several")
def test_a_probe_that_raises_is_the_error_for_its_own_driver() -> None:
    with pytest.raises(DriverUnavailable, match="device alpha: the driver's probe failed, OSError"):
        open_device("alpha")


@pytest.mark.parametrize("spec", [None, 5, b"cpu", ["cpu"]])
def test_a_spec_is_a_text(spec: object) -> None:
    with pytest.raises(OptionError, match=r"^device: is .*, must be a text such as 'auto' or"):
        open_device(spec)  # type: ignore[arg-type]
