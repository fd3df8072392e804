/* Coefficient streams of the VIPNano NN cores: the module _coefs.
 *
 * Everything here is a loop over single weights. Python decides the order of the taps, the corrected
 * biases, the symbol map and the width of the run field.
 */

#include "coefs.h"

static PyObject *histogram(PyObject *self, PyObject *args)
{
    Py_buffer data;
    uint64_t count[256] = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
    const uint8_t *bytes = data.buf;
    for (Py_ssize_t i = 0; i < data.len; i++)
        count[bytes[i]]++;
    PyBuffer_Release(&data);
    return PyBytes_FromStringAndSize((const char *)count, sizeof count);
}

static PyMethodDef methods[] = {
    {"v7_costs", v7_costs, METH_VARARGS,
     "Bits of every core's stream for the run widths 0..8: list of tuples."},
    {"v7_stream", v7_stream, METH_VARARGS, "One core's stream, padded to 64 bytes."},
    {"histogram", histogram, METH_VARARGS, "256 little-endian 64-bit counts of the byte values."},
    {"v8_stream", v8_stream, METH_VARARGS, "(bytes, number of bits) of one core's coded values."},
    {"round_rows", round_rows, METH_VARARGS,
     "(bytes, powers): kernels rounded to another scale, each row so that its errors add up to\n"
     "nothing; two doubles for each row, the sums of squares of weights and of errors."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_coefs", "Coefficient encoders of the VIPNano NPUs.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__coefs(void)
{
    return PyModule_Create(&module);
}
