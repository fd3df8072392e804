"""The conformance kit: tests that every driver must pass, for any installed driver.

    pytest --pyargs teflon_common.conformance --npu-device=sim:rk3588

`graphs` and `wirings` make the models, `grid` and `grid_others` list the cases, and `bench` runs
them. `contract` checks everything except the arithmetic. `expectations` reads the lists of known
failures. `matrix` writes the table of support. Only `plugin`, `conftest` and the tests use pytest.
"""
