from typing import Any

from numpy.typing import NDArray

def fit(low: NDArray[Any], high: NDArray[Any], wanted: NDArray[Any], zero: int) -> bytes | int: ...
