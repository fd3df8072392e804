/* Tensors and nodes of a TFLite runtime as Python objects. Callers hold the GIL. On failure the
 * functions return NULL and set a Python error.
 */
#ifndef TEFLON_MARSHAL_H
#define TEFLON_MARSHAL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tflite_abi.h"

/* A tuple of integers. */
PyObject *numbers(const int *first, int count);
PyObject *ints(const TflIntArray *array);

/* A memoryview of `size` bytes; flags: PyBUF_READ or PyBUF_WRITE. */
PyObject *view(void *data, size_t size, int flags);

/* Lists of TensorRow and NodeRow (teflon.frontend.delegate.rows). */
PyObject *tensor_rows(const TflContext *context);
PyObject *node_rows(TflContext *context, const TflIntArray *numbers);

/* A sequence of Python integers as an array of the runtime (malloc). */
TflIntArray *int_array(PyObject *sequence);

#endif
