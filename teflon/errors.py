"""The exceptions of this package. A message reads *where: what is, what must be (the cure)*."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ` (did you mean X?)` as the end of a message about a misspelt name; empty if no known
    name is similar.
    """
    import difflib  # only errors need it

    if not isinstance(name, str):
        return ""
    near = difflib.get_close_matches(name[:200], list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


_SHOWN = 60


def shown(item: object) -> str:
    """Return a value as messages show it: the end of a long one is cut off. Never raises."""
    try:
        text = repr(item)
    except Exception:  # a class of the caller's
        text = f"of type {type(item).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class TeflonError(Exception):
    """The base of all errors that this package raises on purpose; the text is one sentence."""


class ModelError(TeflonError):
    """The model file is malformed, or uses a feature of its format that we do not support."""


class OptionError(TeflonError):
    """An option, a flag, a device spec or an argument is wrong; the text says what is right."""


class UnsupportedOperation(TeflonError):
    """No device can run an operation; `op` is its title, `reasons` say why not."""

    def __init__(self, op: str, reasons: Sequence[str]) -> None:
        self.op = op
        self.reasons = tuple(reasons)
        super().__init__(f"{op}: {'; '.join(reasons)}")


class DriverUnavailable(TeflonError):
    """A driver plugin is missing or broken, or has no device; the text contains the cure."""


class DriverFault(TeflonError):
    """A driver of another author failed, or broke the interface; `driver` is its name."""

    def __init__(self, driver: str, what: str) -> None:
        self.driver = driver
        super().__init__(f"driver {driver}: {what} (please report it to its authors)")


class DeviceError(TeflonError):
    """The kernel refused a request; the text contains ioctl, errno and the decoded request."""


class DeviceTimeout(DeviceError):
    """The device did not finish in time."""


class ProgramError(TeflonError):
    """A compiled program cannot be used: damaged, or made for another chip, driver or version."""


class EncodingError(TeflonError):
    """A value cannot be expressed in the hardware's encoding.

    `where` names the place, such as an operation or a register; `reason` says what is wrong there.
    The text is `where: reason`.
    """

    def __init__(self, reason: str, *, where: str = "") -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"{where}: {reason}" if where else reason)


class FieldOverflow(EncodingError):
    """A value does not fit its field; the text contains register, field, value and width."""


class Misaligned(EncodingError):
    """An address or a size is not the multiple that the hardware needs."""


class LimitExceeded(EncodingError):
    """A size is beyond what the hardware can address or count."""


class VerifyError(TeflonError):
    """An invariant of the IR is broken, by a bug; the text names the pass and the operation."""


class SimulatorFault(TeflonError):
    """A command stream does something undefined; the text names register, task and operation."""


class RecordingError(TeflonError):
    """A recording cannot be read or replayed."""
