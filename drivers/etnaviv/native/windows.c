/* Copies of an image for the simulated NN cores: with its border, and cut into the phases of a step.
 *
 * Ref: docs/hardware/etnaviv.md section 8.2
 *
 * Plain buffers in and out; sizes are checked before anything is touched.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* An image with its border, as step * step phases. */
struct window {
    const uint8_t *image;
    uint8_t *out;
    Py_ssize_t planes, rows, columns, slice, stride; /* of the image */
    Py_ssize_t top, left;                            /* where the first tap begins, may be < 0 */
    Py_ssize_t high, wide;                           /* of a phase */
    Py_ssize_t step;
    int border;
};

static void
window_row(const struct window *w, const uint8_t *from, Py_ssize_t x, uint8_t *to)
{
    Py_ssize_t i = 0;
    if (w->step > 1) {
        for (; i < w->wide; i++, x += w->step)
            to[i] = x >= 0 && x < w->columns ? from[x] : (uint8_t)w->border;
        return;
    }
    for (; i < w->wide && x < 0; i++, x++)
        to[i] = (uint8_t)w->border;
    if (x < w->columns && i < w->wide) {
        const Py_ssize_t run = w->columns - x < w->wide - i ? w->columns - x : w->wide - i;
        memcpy(to + i, from + x, (size_t)run);
        i += run;
    }
    memset(to + i, w->border, (size_t)(w->wide - i));
}

static void
run_window(const struct window *w)
{
    uint8_t *to = w->out;
    for (Py_ssize_t z = 0; z < w->planes; z++)
        for (Py_ssize_t phase = 0; phase < w->step * w->step; phase++)
            for (Py_ssize_t row = 0; row < w->high; row++, to += w->wide) {
                const Py_ssize_t y = w->top + phase / w->step + row * w->step;
                if (y < 0 || y >= w->rows)
                    memset(to, w->border, (size_t)w->wide);
                else
                    window_row(w, w->image + z * w->slice + y * w->stride,
                               w->left + phase % w->step, to);
            }
}

static PyObject *
window(PyObject *self, PyObject *args)
{
    (void)self;
    const Py_ssize_t most = 1 << 16; /* products below fit 64 bits */
    Py_buffer image, out;
    struct window w;
    if (!PyArg_ParseTuple(args, "y*w*(nnnnn)(nn)(nn)ni", &image, &out, &w.planes, &w.rows,
                          &w.columns, &w.slice, &w.stride, &w.top, &w.left, &w.high, &w.wide,
                          &w.step, &w.border))
        return NULL;
    w.image = image.buf, w.out = out.buf;
    const int sane = w.planes > 0 && w.rows > 0 && w.columns > 0 && w.slice >= 0 &&
                     w.stride >= 0 && w.high > 0 && w.wide > 0 && w.step > 0 &&
                     w.planes < most && w.rows < most && w.columns < most && w.stride <= most &&
                     w.slice <= most * most && w.high < most && w.wide < most && w.step < 16 &&
                     w.top > -most && w.top < most && w.left > -most && w.left < most &&
                     w.border >= 0 && w.border <= 255;
    const int fits =
        sane && w.planes * w.step * w.step * w.high * w.wide <= out.len &&
        (w.planes - 1) * w.slice + (w.rows - 1) * w.stride + w.columns <= image.len;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        run_window(&w);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&image);
    PyBuffer_Release(&out);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "sizes of the buffers disagree");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"window", window, METH_VARARGS, "What the taps of an NN instruction see, with its border."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_windows", "Windows of the simulated NPU.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__windows(void)
{
    return PyModule_Create(&module);
}
