"""Rocket: the NPU of the Rockchip RK3588."""
