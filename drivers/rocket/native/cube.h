/* Cubes in device memory, windows over them, and the checks of buffers that Python hands over. */
#ifndef ROCKET_CUBE_H
#define ROCKET_CUBE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define ATOM 16

#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__) && !defined(__clang__)
#define FAST __attribute__((target_clones("avx2", "default")))
#else
#define FAST
#endif

typedef struct {
    const char *data; /* surface 0, row 0, column 0 */
    Py_ssize_t surfaces, rows, cols;
    Py_ssize_t surface, row; /* bytes from one to the next; columns are ATOM apart */
} Cube;

typedef struct {
    int kernel_h, kernel_w, stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left;
    Py_ssize_t first, rows, width; /* of the output: first row, how many rows, columns */
} Window;

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

/* Sizes beyond these cannot come from a command list, whose fields are narrower. */
#define MOST 65536

static int
check_window(const Window *w)
{
    const int least[] = {w->kernel_h, w->kernel_w, w->stride_y, w->stride_x, w->dilation_y,
                         w->dilation_x};
    for (size_t i = 0; i < sizeof least / sizeof *least; i++)
        if (least[i] < 1 || least[i] > MOST)
            goto wrong;
    if (w->pad_top >= 0 && w->pad_left >= 0 && w->pad_top <= MOST && w->pad_left <= MOST &&
        w->first >= 0 && w->first <= MOST && w->rows >= 0 && w->rows <= MOST && w->width >= 1 &&
        w->width <= MOST)
        return 0;
wrong:
    PyErr_Format(PyExc_ValueError, "window: a size is not positive or above %d", MOST);
    return -1;
}

/* Columns of the input that the windows of a row reach over. */
static inline Py_ssize_t
reach_x(const Window *w)
{
    return (w->width - 1) * w->stride_x + (Py_ssize_t)(w->kernel_w - 1) * w->dilation_x + 1;
}

static inline Py_ssize_t
reach_y(const Window *w, Py_ssize_t rows)
{
    return (rows - 1) * w->stride_y + (Py_ssize_t)(w->kernel_h - 1) * w->dilation_y + 1;
}

/* The columns that windows reach over: padding left, the input's columns, padding right. */
typedef struct {
    Py_ssize_t left, inside, right;
} Span;

static inline Span
span_of(const Cube *in, const Window *w, Py_ssize_t y)
{
    const Py_ssize_t reach = reach_x(w);
    Span s = {w->pad_left < reach ? w->pad_left : reach, 0, 0};
    if (y < 0 || y >= in->rows)
        s.left = reach;
    s.inside = reach - s.left < in->cols ? reach - s.left : in->cols;
    s.right = reach - s.left - s.inside;
    return s;
}

#endif
