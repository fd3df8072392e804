/* Cubes in device memory, and the checks of buffers that Python hands over. */
#ifndef ROCKET_CUBE_H
#define ROCKET_CUBE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define ATOM 16

typedef struct {
    const char *data; /* surface 0, row 0, column 0 */
    Py_ssize_t surfaces, rows, cols;
    Py_ssize_t surface, row; /* bytes from one to the next; columns are ATOM apart */
} Cube;

static int
get(PyObject *object, Py_buffer *view, int flags, const char *format, int dims, const char *name)
{
    if (PyObject_GetBuffer(object, view, flags | PyBUF_FORMAT) < 0)
        return -1;
    const char *have = view->format ? view->format : "B";
    if (view->ndim != dims || strcmp(have, format) != 0) {
        PyErr_Format(PyExc_ValueError, "%s: has %d dimensions of '%s', must have %d of '%s'", name,
                     view->ndim, have, dims, format);
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

static int
get_cube(PyObject *object, Py_buffer *view, int flags, Cube *cube, const char *name)
{
    if (get(object, view, flags | PyBUF_STRIDES, "b", 4, name) < 0)
        return -1;
    if (view->shape[3] != ATOM || view->strides[3] != 1 ||
        (view->shape[2] > 1 && view->strides[2] != ATOM)) {
        PyErr_Format(PyExc_ValueError, "%s: pixels must be %d bytes next to one another", name,
                     ATOM);
        PyBuffer_Release(view);
        return -1;
    }
    *cube = (Cube){view->buf,        view->shape[0],   view->shape[1],
                   view->shape[2],   view->strides[0], view->strides[1]};
    return 0;
}

#endif
