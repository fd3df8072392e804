"""The two instructions that the engines fetch from memory, as declared fields.

Ref: docs/hardware/etnaviv.md sections 3.1 and 3.2, etnaviv_nn.json, etnaviv_tp.json
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c and etnaviv_ml_tp.c (names and order)

Fields follow one another from bit 0 of word 0. Defaults are what every launch has.
"""

from teflon_common.registers import Descriptor, bits


class NNInstruction(Descriptor, words=34):
    """One whole layer for the NN cores; 136 bytes."""

    # word 0
    layer_type: int = bits(1)  # 0 convolution, 1 fully connected (never used)
    no_z_offset: int = bits(1)  # V8: streams carry no output offsets
    kernel_xy_size: int = bits(4)  # columns as the hardware walks them
    kernel_z_size: int = bits(14)  # input planes
    kernels_per_core: int = bits(7)  # in one superblock
    pooling: int = bits(2)  # 0 none, 1 max, 2 average, 3 first pixel of 2x2
    pooling_xy_size: int = bits(1, default=1)  # 0 with first-pixel pooling
    prelu: int = bits(1)
    nn_layer_flush: int = bits(1, default=1)
    # word 1
    kernel_data_type: int = bits(2)  # 0: unsigned bytes with a zero point
    in_image_data_type: int = bits(2)
    out_image_data_type: int = bits(2)
    in_image_x_size: int = bits(13)
    in_image_y_size: int = bits(13)
    # word 2
    in_image_x_offset: int = bits(3)  # bits 2:0 of the first tap's offset
    in_image_y_offset: int = bits(3)
    unused0: int = bits(1)
    brick_mode: int = bits(1)
    brick_distance: int = bits(16)
    relu: int = bits(1)
    unused1: int = bits(1)
    post_multiplier: int = bits(1)  # bit 0
    post_shift: int = bits(5)  # bits 4:0
    # word 3
    unused2: int = bits(3)
    no_flush: int = bits(1)  # V7: 0, V8: 1
    unused3: int = bits(2)
    out_image_x_size: int = bits(13)  # before pooling
    out_image_y_size: int = bits(13)  # before pooling
    # word 4
    out_image_z_size: int = bits(14)  # output channels
    rounding_mode: int = bits(2, default=1)
    in_image_x_offset_bit_3: int = bits(1)
    in_image_y_offset_bit_3: int = bits(1)
    out_image_tile_x_size: int = bits(7)
    out_image_tile_y_size: int = bits(7)
    # word 5
    kernel_address: int = bits(26)  # >> 6
    kernel_z_size2: int = bits(6)  # bits 19:14
    # word 6
    in_image_address: int = bits(32)
    # word 7
    out_image_address: int = bits(32)
    # word 8
    image_caching_mode: int = bits(2)  # 0 none, 1 full, 2 partial
    kernel_caching_mode: int = bits(2)  # 0 none, 1 full, 2 partial
    partial_cache_data_unit: int = bits(2)
    kernel_pattern_msb: int = bits(6)
    kernel_y_size: int = bits(4)  # rows
    out_image_y_stride: int = bits(16)  # rows per plane
    # word 9
    kernel_pattern_low: int = bits(32)
    # word 10
    kernel_pattern_high: int = bits(32)
    # word 11
    kernel_cache_start_address: int = bits(32, default=0x800)
    # word 12
    kernel_cache_end_address: int = bits(32)
    # word 13
    image_cache_start_address: int = bits(32)
    # word 14
    image_cache_end_address: int = bits(32)
    # word 15
    in_image_border_mode: int = bits(2)  # 0 constant
    in_image_border_const: int = bits(16)
    unused4: int = bits(1)
    kernel_data_type_bit_2: int = bits(1)
    in_image_data_type_bit_2: int = bits(1)
    out_image_data_type_bit_2: int = bits(1)
    post_multiplier_1_to_6: int = bits(6)
    post_shift_bit_5_6: int = bits(2)
    unused5: int = bits(2)
    # word 16
    in_image_x_stride: int = bits(16)  # bytes per row
    in_image_y_stride: int = bits(16)  # rows per plane
    # word 17
    out_image_x_stride: int = bits(16)  # bytes per row
    unused6: int = bits(8)
    post_multiplier_7_to_14: int = bits(8)
    # word 18
    out_image_circular_buf_size: int = bits(26)  # >> 6
    per_channel_post_mul: int = bits(1)
    unused7_0: int = bits(1)
    unused7_1: int = bits(1)
    unused7_2: int = bits(1)  # V8: bit 4 of the x offset
    unused7_3: int = bits(2)  # V8, bit 0: bit 4 of the y offset
    # word 19
    out_image_circular_buf_end_addr_plus_1: int = bits(26, default=0x3FFFFFF)
    unused8: int = bits(6)
    # word 20
    in_image_circular_buf_size: int = bits(26)  # >> 6
    unused9: int = bits(6)
    # word 21
    in_image_circular_buf_end_addr_plus_1: int = bits(26, default=0x3FFFFFF)
    unused10: int = bits(6)
    # word 22
    coef_zero_point: int = bits(8)
    out_zero_point: int = bits(8)
    kernel_direct_stream_from_VIP_sram: int = bits(1)
    depthwise: int = bits(1)  # V8
    post_multiplier_15_to_22: int = bits(8)  # V8
    unused11: int = bits(6)
    # word 23
    unused12: int = bits(32)
    # word 24
    unused13: int = bits(4)
    unused14: int = bits(28)
    # word 25
    unused15: int = bits(4)
    unused16: int = bits(28)
    # word 26
    further1: int = bits(32)
    # word 27
    further2: int = bits(32)
    # word 28
    further3: int = bits(32, default=0x3FFFFFF)
    # word 29
    further4: int = bits(32, default=0x7F800000)  # +infinity as a float
    # word 30
    further5: int = bits(32, default=0xFF800000)  # -infinity
    # word 31
    further6: int = bits(32)
    # word 32
    further7: int = bits(32)
    # word 33
    further8: int = bits(32)


class TPInstruction(Descriptor, words=31):
    """One job of a TP core; 124 bytes."""

    # word 0
    in_image_x_size: int = bits(16)
    unused0: int = bits(16)
    # word 1
    in_image_y_size: int = bits(16)
    in_image_z_size: int = bits(16)
    # word 2
    in_image_stride: int = bits(16)  # bytes per row
    unused1: int = bits(16)
    # word 3
    in_image_slice: int = bits(32)  # bytes per plane
    # word 4
    in_window_x_start: int = bits(16, signed=True)  # negative: padding
    in_window_y_start: int = bits(16, signed=True)
    # word 5
    in_window_x_end: int = bits(16, signed=True)  # inclusive
    in_window_y_end: int = bits(16, signed=True)  # inclusive
    # word 6
    in_tile_sequence: int = bits(2)
    in_tile_global_mem: int = bits(1)
    in_image_global_mem: int = bits(1, default=1)
    alu_i2f_enable: int = bits(1, default=1)
    alu_square_enable: int = bits(1)
    alu_horz_processing: int = bits(3)
    alu_horz_proc_count: int = bits(6)
    alu_horz_proc_stride: int = bits(1)
    alu_vert_processing: int = bits(2)
    unused2: int = bits(1)
    alu_vert_proc_count: int = bits(6)
    alu_vert_proc_stride: int = bits(1)
    alu_nms_enable: int = bits(1)
    alu_pwl_enable: int = bits(1)
    alu_mult_enable: int = bits(1)
    alu_f2i_enable: int = bits(1, default=1)
    alu_load_pwl_lut: int = bits(1)
    alu_load_pwl_lut_global_mem: int = bits(1)
    # word 7
    in_tile_list_address: int = bits(32)
    # word 8
    in_tile_x_size: int = bits(16, default=1)
    in_tile_y_size: int = bits(16)
    # word 9
    in_tile_x_inc: int = bits(16, default=1)
    in_tile_y_inc: int = bits(16)
    # word 10
    in_image_base_address: int = bits(32)
    # word 11
    alu_load_pwl_lut_address: int = bits(32)
    # word 12
    out_tile_skip_at_border: int = bits(1)
    out_image_global_mem: int = bits(1, default=1)
    out_loop_1_reset: int = bits(1)
    out_loop_2_reset: int = bits(1)
    out_loop_3_reset: int = bits(1)
    out_brick_mode: int = bits(1)
    alu_z_filter_mode: int = bits(1)
    unused3: int = bits(1)
    in_window_z_start_overfetch: int = bits(2)  # padding planes before the first
    unused4: int = bits(1)
    in_window_z_end_overfetch: int = bits(2)  # padding planes after the last
    unused5: int = bits(1)
    alu_square_preshift: int = bits(4)
    in_image_data_type: int = bits(3)
    out_image_data_type: int = bits(3)
    unused6: int = bits(4)
    alu_pwl_sign_support: int = bits(1)
    alu_relu_enable: int = bits(1)
    no_flush: int = bits(1)  # every job of a group but the last
    last: int = bits(1, default=1)
    # word 13
    out_image_base_address: int = bits(32)
    # word 14
    out_loop_0_inc: int = bits(32, signed=True, default=1)
    # word 15
    out_loop_1_inc: int = bits(32, signed=True)
    # word 16
    out_loop_0_count: int = bits(16)
    out_loop_1_count: int = bits(16)  # 0 with reset: along the tile row
    # word 17
    out_loop_2_inc: int = bits(32, signed=True)
    # word 18
    out_loop_3_inc: int = bits(32, signed=True)
    # word 19
    out_loop_2_count: int = bits(16)  # 0 with reset: along the tile rows
    out_loop_3_count: int = bits(16, default=1)
    # word 20
    out_loop_4_inc: int = bits(32, signed=True)
    # word 21
    out_loop_5_inc: int = bits(32, signed=True)
    # word 22
    out_loop_4_count: int = bits(16, default=1)
    out_loop_5_count: int = bits(16, default=1)
    # word 23
    out_loop_6_inc: int = bits(32, signed=True)  # added whenever all inner loops wrapped
    # word 24
    alu_filter_pwl_swap: int = bits(1)
    flat_rounding_mode: int = bits(2, default=1)
    integer_rounding_mode: int = bits(2, default=1)
    alu_input_preshift: int = bits(5)
    alu_output_postshift: int = bits(5)  # bits 4:0
    alu_reorder_bits_used: int = bits(4)
    alu_reorder_loop_2_mode: int = bits(1)
    unused7: int = bits(4)
    in_image_border_mode: int = bits(2)
    alu_output_postshift_5_6: int = bits(2)
    unused8: int = bits(4)
    # word 25
    in_image_circular_buf_size: int = bits(32)
    # word 26
    in_image_circular_buf_end_address_plus_1: int = bits(32, default=0x3FFFFFF)
    # word 27
    out_image_circular_buf_size: int = bits(32)
    # word 28
    out_image_circular_buf_end_address_plus_1: int = bits(32, default=0x3FFFFFF)
    # word 29
    in_image_border_const: int = bits(16)
    coef_zp: int = bits(8)
    in_zp: int = bits(8)
    # word 30
    out_zp: int = bits(8)
    alu_output_post_multiplier: int = bits(15)  # 15 fraction bits
    unused9: int = bits(9)
