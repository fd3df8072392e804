/* The bit writer of both encoders of coefficients, and their functions of the module _coefs. */

#ifndef TEFLON_COEFS_H
#define TEFLON_COEFS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* Bits go in from bit 0 of byte 0 upward. */
struct writer {
    uint8_t *at;
    uint8_t *end; /* nothing is written from here on: a size that disagrees must not hurt */
    uint64_t bits;
    unsigned count;
};

static inline void put_bits(struct writer *out, uint64_t value, unsigned width)
{
    out->bits |= value << out->count;
    out->count += width;
    while (out->count >= 8) {
        if (out->at < out->end)
            *out->at++ = (uint8_t)out->bits;
        out->bits >>= 8;
        out->count -= 8;
    }
}

static inline void end_bits(struct writer *out)
{
    if (out->count && out->at < out->end)
        *out->at++ = (uint8_t)out->bits;
    out->bits = 0;
    out->count = 0;
}

PyObject *v7_costs(PyObject *self, PyObject *args);
PyObject *v7_stream(PyObject *self, PyObject *args);
PyObject *round_rows(PyObject *self, PyObject *args);
PyObject *v8_stream(PyObject *self, PyObject *args);

#endif
