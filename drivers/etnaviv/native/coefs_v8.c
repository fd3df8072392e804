/* V8 coefficient streams: a Huffman code of pairs in three stages.
 *
 * Ref: docs/hardware/etnaviv.md sections 7.4, 7.5
 */

#include "coefs.h"

/* What one value of the V8 code is made of; a width of 0 means that the part is absent. */
struct v8_code {
    uint8_t part0, part1, part1_width, part2_width;
    uint8_t part2;
};

static unsigned bit_length(unsigned v)
{
    unsigned n = 0;
    for (; v; v >>= 1)
        n++;
    return n;
}

static void v8_codes(const uint8_t *symbol_of_length, struct v8_code *codes)
{
    static const uint8_t part0[8] = {0, 1, 7, 3, 6, 2, 2, 2};
    for (unsigned v = 0; v < 256; v++) {
        unsigned sign = v >> 7, a = sign ? v ^ 0xff : v, length = bit_length(a);
        unsigned n = length ? length : 1, symbol = symbol_of_length[length];
        unsigned rest = length ? a & ((1u << (length - 1)) - 1) : 0;
        unsigned payload = rest << 1 | sign;
        struct v8_code c = {.part0 = part0[symbol], .part2 = (uint8_t)payload,
                            .part2_width = (uint8_t)n};
        if (symbol < 2 || symbol == 5) {
            c.part2 = (uint8_t)(payload >> 1);
            c.part2_width = (uint8_t)(n - 1);
        }
        if (symbol < 2)
            c.part0 = (uint8_t)(c.part0 + 4 * sign);
        if (symbol >= 5) {
            c.part1_width = 2;
            c.part1 = (uint8_t)(symbol == 5 ? 1 + 2 * sign : symbol == 6 ? 2 : 0);
        }
        codes[v] = c;
    }
}

/* The pairs run through three stages: part 0 of pair t, part 1 of t - 1, part 2 of t - 2. */
static Py_ssize_t v8_write(const struct v8_code *codes, const uint8_t *values, Py_ssize_t count,
                           struct writer *out)
{
    Py_ssize_t pairs = (count + 1) / 2, bits = 0;
    struct v8_code window[3][2];
    static const struct v8_code none = {0, 0, 0, 0, 0};
    memset(window, 0, sizeof window);
    for (Py_ssize_t t = 0; t < pairs + 2; t++) {
        struct v8_code *now = window[t % 3], *before = window[(t + 2) % 3], *oldest = window[(t + 1) % 3];
        for (int i = 0; i < 2; i++) {
            Py_ssize_t at = 2 * t + i;
            now[i] = none;
            if (at < count)
                now[i] = codes[values[at]];
            else if (t < pairs)
                now[i] = codes[0];
            else if (count & 1)
                now[i].part0 = 4;
            put_bits(out, now[i].part0, 3);
        }
        bits += 6;
        for (int i = 0; i < 2; i++) {
            put_bits(out, before[i].part1, before[i].part1_width);
            bits += before[i].part1_width;
        }
        for (int i = 0; i < 2; i++) {
            put_bits(out, oldest[i].part2, oldest[i].part2_width);
            bits += oldest[i].part2_width;
        }
    }
    end_bits(out);
    return bits;
}

PyObject *v8_stream(PyObject *self, PyObject *args)
{
    Py_buffer values, symbols;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*", &values, &symbols))
        return NULL;
    if (symbols.len != 8) {
        PyErr_SetString(PyExc_ValueError, "v8_stream: the symbol map must have 8 entries");
        goto done;
    }
    for (Py_ssize_t i = 0; i < 8; i++)
        if (((const uint8_t *)symbols.buf)[i] > 7) {
            PyErr_SetString(PyExc_ValueError, "v8_stream: symbols must be 0..7");
            goto done;
        }
    /* 12 bits is the longest code of one value: part 0, part 1, 7 bits of payload. */
    Py_ssize_t room = (values.len + 8) * 12 / 8 + 64;
    uint8_t *buffer = PyMem_Malloc((size_t)room);
    if (!buffer) {
        PyErr_NoMemory();
        goto done;
    }
    struct v8_code codes[256];
    struct writer out = {.at = buffer, .end = buffer + room};
    Py_ssize_t bits;
    Py_BEGIN_ALLOW_THREADS
    v8_codes(symbols.buf, codes);
    bits = v8_write(codes, values.buf, values.len, &out);
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("y#n", (const char *)buffer, (bits + 7) / 8, bits);
    PyMem_Free(buffer);
done:
    PyBuffer_Release(&values);
    PyBuffer_Release(&symbols);
    return result;
}
