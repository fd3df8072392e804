"""The exception tree. Messages read *where: what is, what must be (the cure)*."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for a misspelt name, to end a message with; empty where no known
    name is near.
    """
    import difflib  # for errors only

    near = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


class TeflonError(Exception):
    """Anything that this package raises on purpose; its text is one sentence for the user."""


class ModelError(TeflonError):
    """The model file is malformed, or uses a feature of its format that is not read."""


class OptionError(TeflonError):
    """An option, a flag, a device spec or an argument is wrong; names what would be right."""


class UnsupportedOperation(TeflonError):
    """An operation had to run somewhere and cannot; carries its name and the reasons."""

    def __init__(self, op: str, reasons: Sequence[str]) -> None:
        self.op = op
        self.reasons = tuple(reasons)
        super().__init__(f"{op}: {'; '.join(reasons)}")


class DriverUnavailable(TeflonError):
    """A driver plugin is missing or broken, or there is no device for it; carries the cure."""


class DeviceError(TeflonError):
    """The kernel refused a request: ioctl, errno and the decoded request are in the text."""


class DeviceTimeout(DeviceError):
    """The device did not finish in time."""


class ProgramError(TeflonError):
    """A compiled program cannot be used: damaged, or made for another chip, driver or version."""


class EncodingError(TeflonError):
    """A value cannot be expressed in the hardware's encoding.

    `reason` says what is wrong and `where` in what: an operation, a register. The text is
    `where: reason`.
    """

    def __init__(self, reason: str, *, where: str = "") -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"{where}: {reason}" if where else reason)


class FieldOverflow(EncodingError):
    """A value does not fit its field: register, field, value and width are in the text."""


class Misaligned(EncodingError):
    """An address or a size is not the multiple that the hardware needs."""


class LimitExceeded(EncodingError):
    """A size is beyond what the hardware can address or count."""


class VerifyError(TeflonError):
    """An invariant of the IR is broken: a bug of ours; names the pass and the operation."""


class SimulatorFault(TeflonError):
    """A command stream did something undefined; names register, task and operation."""


class RecordingError(TeflonError):
    """A recording cannot be read or replayed."""
