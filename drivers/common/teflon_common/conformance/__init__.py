"""The conformance kit: what every driver must do, run against any that is installed.

    pytest --pyargs teflon_common.conformance --npu-device=sim:rk3588

`graphs` and `wirings` make the models, `grid` and `grid_others` name the cases, `bench` runs them,
`contract` looks at everything that is not arithmetic, `expectations` reads the lists of what is
known to be wrong, `matrix` writes the table of support. Only `plugin`, `conftest` and the tests
know pytest.
"""
