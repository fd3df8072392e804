# Ref: docs/hardware/rocket_registers.json, docs/hardware/rocket.md §3
# Ref: Mesa, src/gallium/drivers/rocket/registers.xml (names, offsets, bit positions)
# Ref: RK3588 TRM part 1, chapter 36 (meaning)
"""Program control and the global enable mask."""

from teflon_common.registers import Block, Register, bits
from teflon_rocket.registers.shared import Interrupts


class PC(Block, target=0x0100):
    """Program control: fetches register lists, starts blocks, sequences tasks, interrupts."""

    class VERSION(Register, offset=0x0000):
        """Hardware version; the kernel reports VERSION + (VERSION_NUM & 0xffff)."""

        VERSION: int = bits(31, 0)

    class VERSION_NUM(Register, offset=0x0004):
        """Hardware version, second part."""

        VERSION_NUM: int = bits(31, 0)

    class OPERATION_ENABLE(Register, offset=0x0008):
        """Through the bus: bit 0 lets the PC fetch and run register lists. In a register list
        (target 0x0081) the value is the mask of blocks to start: 0x01 CNA, 0x04 CORE, 0x08 DPU,
        0x10 DPU_RDMA, 0x20 PPU, 0x40 PPU_RDMA.
        """

        OP_EN: int = bits(0, 0)  # PC enable (bus write) / CNA enable (target 0x0081)

    class BASE_ADDRESS(Register, offset=0x0010):
        """Address of the register list to fetch; inside a list: address of the next task's list."""

        # 0 = the PC fetches register lists by DMA; 1 = slave mode, registers set over the bus
        PC_SEL: int = bits(0, 0)
        PC_SOURCE_ADDR: int = bits(31, 4)  # address bits 31:4 (16-byte aligned)

    class REGISTER_AMOUNTS(Register, offset=0x0014):
        """Length of the list to fetch."""

        # in units of two 64-bit words, minus one in the kernel: (count+1)/2-1; the value patched
        # into a list for the next task: align((count-4)/2, 2)
        PC_DATA_AMOUNT: int = bits(15, 0)
        # cores that share the operation (the vendor's lists; inferred)
        CORES: int = bits(17, 16, minus=1)

    class INTERRUPT_MASK(Interrupts, offset=0x0020):
        """1 = interrupt enabled."""

    class INTERRUPT_CLEAR(Interrupts, offset=0x0024):
        """Write 1 to clear."""

    class INTERRUPT_STATUS(Interrupts, offset=0x0028):
        """Raw status AND mask."""

    class INTERRUPT_RAW_STATUS(Interrupts, offset=0x002C):
        """Status before the mask."""

    class TASK_CON(Register, offset=0x0030):
        """Task sequencer; the kernel writes 0x7001 (reserved bit 14, count clear, ping-pong, 1
        task).
        """

        TASK_NUMBER: int = bits(11, 0)  # number of tasks the PC runs before it reports completion
        # 1: fetch the next task's registers into the other group while this task runs
        TASK_PP_EN: int = bits(12, 12)
        TASK_COUNT_CLEAR: int = bits(13, 13)  # write 1: reset the task counter

    class TASK_DMA_BASE_ADDR(Register, offset=0x0034):
        """Base added to every address used by the feature, weight, DPU and PPU DMAs; kernel writes
        0.
        """

        DMA_BASE_ADDR: int = bits(31, 4)  # bits 31:4

    class TASK_STATUS(Register, offset=0x003C):
        """Progress of the task sequencer."""

        # 11:0 current task number; next bits: first/last task running or being fetched
        TASK_STATUS: int = bits(27, 0)


class GLOBAL(Block, target=0x40000):
    """Mask of the blocks to start. Its target does not fit a command word: bus only."""

    class OPERATION_ENABLE(Register, offset=0xF008):
        """Mask of blocks to start, same bits as the value sent to target 0x0081."""

        CNA_OP_EN: int = bits(0, 0)  # start CNA
        CORE_OP_EN: int = bits(2, 2)  # start CORE
        DPU_OP_EN: int = bits(3, 3)  # start DPU
        DPU_RDMA_OP_EN: int = bits(4, 4)  # start DPU_RDMA
        PPU_OP_EN: int = bits(5, 5)  # start PPU
        PPU_RDMA_OP_EN: int = bits(6, 6)  # start PPU_RDMA
