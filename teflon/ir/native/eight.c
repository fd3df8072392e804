/* Convolutions of 8-bit images [row, column, channel] with TFLite's requantisation behind.
 *
 * Plain buffers in and out; every array's format and shape is checked, so that wrong arguments
 * raise ValueError instead of touching memory.  The numpy twins are in teflon/ir/windows.py and
 * teflon/ir/quantized.py; tests/ir/test_eight.py holds them equal.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "windows.h"

/* What a kernel does with its sums: one entry per output, padded to whole panels. */
typedef struct {
    const int32_t *bias, *factors, *left, *right; /* factor * 2^(left - right - 31) */
    int zero, low, high;
} Finishing;

typedef struct {
    const uint8_t *x;
    int is_signed, zero_x;
    Py_ssize_t rows, columns, channels; /* of the image */
    Py_ssize_t step;                    /* channels of the padded image */
    Window w;
    const void *weights;
    Py_ssize_t panels, outputs;
    Finishing finishing;
    uint8_t *out; /* of the first row asked for */
} Work;

INLINE void
centre(const Work *work, const uint8_t *from, Py_ssize_t count, int16_t *to)
{
    const int16_t zero = (int16_t)work->zero_x;
    if (work->is_signed)
        for (Py_ssize_t i = 0; i < count; i++)
            to[i] = (int16_t)((int8_t)from[i] - zero);
    else
        for (Py_ssize_t i = 0; i < count; i++)
            to[i] = (int16_t)(from[i] - zero);
}

/* A row less its zero point; padding is zero then. */
INLINE void
fill(const void *of, Py_ssize_t y, int16_t *to)
{
    const Work *work = of;
    const Py_ssize_t step = work->step, channels = work->channels;
    const Span s = span_of(&work->w, y, work->rows, work->columns);
    memset(to, 0, (size_t)(s.left * step) * sizeof *to);
    to += s.left * step;
    /* y may lie far outside */
    const uint8_t *from = work->x + (s.inside ? y * work->columns * channels : 0);
    if (step == channels) {
        centre(work, from, s.inside * channels, to);
        to += s.inside * step;
    } else {
        for (Py_ssize_t x = 0; x < s.inside; x++, from += channels, to += step) {
            centre(work, from, channels, to);
            memset(to + channels, 0, (size_t)(step - channels) * sizeof *to);
        }
    }
    memset(to, 0, (size_t)(s.right * step) * sizeof *to);
}

/* x times a multiplier, rounded at both of its steps, as TFLite's kernels do.
 * Ref: TFLite's MultiplyByQuantizedMultiplier; teflon/ir/quantized.py */
INLINE int32_t
requantised(int32_t x, int32_t factor, int32_t left, int32_t right)
{
    const int64_t product = (int64_t)(int32_t)((uint32_t)x << left) * factor + (1 << 30);
    const int32_t high = (int32_t)(uint32_t)((uint64_t)product >> 31);
    const int32_t mask = (int32_t)((1u << right) - 1);
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0));
}

INLINE void
finish(const void *of, Py_ssize_t u, Py_ssize_t at, int count, int32_t (*sums)[LANES])
{
    const Work *work = of;
    const Finishing *f = &work->finishing;
    const int32_t *bias = f->bias + u * LANES, *factors = f->factors + u * LANES;
    const int32_t *left = f->left + u * LANES, *right = f->right + u * LANES;
    const int32_t low = f->low - f->zero, high = f->high - f->zero, zero = f->zero;
    uint8_t bytes[TILE * LANES];
    const int32_t *values = sums[0];
    for (int r = 0; r < count; r++)
        for (int k = 0; k < LANES; k++) {
            const int32_t sum = (int32_t)((uint32_t)sums[r][k] + (uint32_t)bias[k]);
            int32_t v = requantised(sum, factors[k], left[k], right[k]);
            v = v > low ? v : low;
            sums[r][k] = (v < high ? v : high) + zero;
        }
    for (int i = 0; i < count * LANES; i++)
        bytes[i] = (uint8_t)values[i];
    const Py_ssize_t rest = work->outputs - u * LANES;
    uint8_t *to = work->out + at * work->outputs + u * LANES;
    for (int r = 0; r < count; r++, to += work->outputs)
        memcpy(to, bytes + r * LANES, rest < LANES ? (size_t)rest : LANES);
}

FAST static void
run_convolve(const Work *work, const Block *block)
{
    run_blocks(&work->w, block, work->panels, work->weights, convolve_tile, fill, finish, work);
}

FAST static void
run_depthwise(const Work *work, const Block *block)
{
    run_blocks(&work->w, block, work->panels, work->weights, depthwise_tile, fill, finish, work);
}

typedef struct {
    const char *name, *weights; /* the format */
    int multiple;               /* of which the padded image has channels */
    void (*run)(const Work *, const Block *);
} Kind;

static int
get(PyObject *object, Py_buffer *view, int flags, const char *formats, int dims, const char *name)
{
    if (PyObject_GetBuffer(object, view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return -1;
    const char *have = view->format ? view->format : "B";
    if (view->ndim != dims || strlen(have) != 1 || !strchr(formats, *have)) {
        PyErr_Format(PyExc_ValueError, "%s: has %d dimensions of '%s', must have %d of '%s'", name,
                     view->ndim, have, dims, formats);
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

/* Sizes that belong together; everything is read and written as they say. */
static int
check_shapes(const Kind *kind, const Work *work, const Py_buffer *x, const Py_buffer *weights,
             const Py_buffer *finishing, const Py_buffer *out)
{
    const int depthwise = kind->multiple == LANES;
    const Window *w = &work->w;
    const Py_ssize_t taps = (Py_ssize_t)w->kernel_h * w->kernel_w, most = MOST;
    if (work->rows > most || work->columns > most || work->channels > most || taps > most ||
        x->shape[2] < 1)
        return -1;
    const Py_ssize_t inside = depthwise ? taps : taps * (work->step / 2);
    if (weights->shape[1] != inside || weights->shape[2] != (depthwise ? LANES : 2 * LANES) ||
        (depthwise && weights->shape[0] * LANES != work->step))
        return -1;
    for (int i = 0; i < 4; i++)
        if (finishing[i].shape[0] != work->panels * LANES)
            return -1;
    return out->shape[1] == w->width && w->first + w->rows <= out->shape[0] &&
                   out->shape[2] <= work->panels * LANES &&
                   out->shape[2] > (work->panels - 1) * LANES
               ? 0
               : -1;
}

/* Factors are at least -2^31 + 1, shifts 0 to 31: nothing overflows then. */
static int
check_factors(const Finishing *f, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++)
        if (f->factors[i] == INT32_MIN || f->left[i] < 0 || f->left[i] > 31 || f->right[i] < 0 ||
            f->right[i] > 31)
            return -1;
    return f->zero >= -128 && f->zero <= 255 && f->low >= -128 && f->low <= f->high &&
                   f->high <= 255
               ? 0
               : -1;
}

enum { X, WEIGHTS, BIAS, FACTORS, LEFT, RIGHT, OUT, BUFFERS };

static int
get_buffers(const Kind *kind, PyObject *const *objects, Py_buffer *views)
{
    static const char *const names[] = {"x", "weights", "bias", "factors", "left", "right", "out"};
    const char *const formats[] = {"bB", kind->weights, "i", "i", "i", "i", "bB"};
    static const int dims[] = {3, 3, 1, 1, 1, 1, 3};
    for (int i = 0; i < BUFFERS; i++)
        if (get(objects[i], &views[i], i == OUT ? PyBUF_WRITABLE : 0, formats[i], dims[i],
                names[i]) < 0)
            return -1;
    return 0;
}

static void
set_work(const Kind *kind, Work *work, const Py_buffer *views)
{
    const Py_buffer *x = &views[X], *out = &views[OUT];
    work->x = x->buf;
    work->is_signed = x->format && *x->format == 'b';
    work->rows = x->shape[0];
    work->columns = x->shape[1];
    work->channels = x->shape[2];
    work->step = (work->channels + kind->multiple - 1) / kind->multiple * kind->multiple;
    work->weights = views[WEIGHTS].buf;
    work->panels = views[WEIGHTS].shape[0];
    work->outputs = out->shape[2];
    work->finishing.bias = views[BIAS].buf;
    work->finishing.factors = views[FACTORS].buf;
    work->finishing.left = views[LEFT].buf;
    work->finishing.right = views[RIGHT].buf;
}

static PyObject *
run(const Kind *kind, const Work *work)
{
    Block block = {0};
    int made;
    Py_BEGIN_ALLOW_THREADS
    made = make_block(&block, &work->w, work->step, kind->multiple != LANES);
    if (made == 0)
        kind->run(work, &block);
    free_block(&block);
    Py_END_ALLOW_THREADS
    return made == 0 ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

static PyObject *
call(const Kind *kind, PyObject *args)
{
    PyObject *objects[BUFFERS], *result = NULL;
    Py_buffer views[BUFFERS] = {0};
    Work work = {0};
    Window *w = &work.w;
    Finishing *f = &work.finishing;
    if (!PyArg_ParseTuple(args, "OiO(ii)(ii)(ii)(ii)(nnn)(OOOOiii)O", &objects[X], &work.zero_x,
                          &objects[WEIGHTS], &w->kernel_h, &w->kernel_w, &w->stride_y,
                          &w->stride_x, &w->dilation_y, &w->dilation_x, &w->pad_top, &w->pad_left,
                          &w->first, &w->rows, &w->width, &objects[BIAS], &objects[FACTORS],
                          &objects[LEFT], &objects[RIGHT], &f->zero, &f->low, &f->high,
                          &objects[OUT]) ||
        check_window(w) < 0)
        return NULL;
    if (get_buffers(kind, objects, views) == 0) {
        set_work(kind, &work, views);
        if (check_shapes(kind, &work, &views[X], &views[WEIGHTS], &views[BIAS], &views[OUT]) < 0)
            PyErr_Format(PyExc_ValueError, "%s: shapes do not belong together", kind->name);
        else if (check_factors(f, work.panels * LANES) < 0 || work.zero_x < -128 ||
                 work.zero_x > 255)
            PyErr_Format(PyExc_ValueError, "%s: a factor, shift or limit is out of range",
                         kind->name);
        else {
            work.out = (uint8_t *)views[OUT].buf + w->first * w->width * work.outputs;
            result = run(kind, &work);
        }
    }
    for (int i = 0; i < BUFFERS; i++)
        PyBuffer_Release(&views[i]);
    return result;
}

static PyObject *
convolve(PyObject *self, PyObject *args)
{
    static const Kind kind = {"convolve", "h", 2, run_convolve};
    (void)self;
    return call(&kind, args);
}

static PyObject *
depthwise(PyObject *self, PyObject *args)
{
    static const Kind kind = {"depthwise", "i", LANES, run_depthwise};
    (void)self;
    return call(&kind, args);
}

#define ARGUMENTS                                                                                  \
    "(x, zero, weights, kernel, stride, dilation, pads, (first_row, rows, width), "                \
    "(bias, factors, left, right, zero, low, high), out)\n"

static PyMethodDef methods[] = {
    {"convolve", convolve, METH_VARARGS,
     "convolve" ARGUMENTS "Rows of an 8-bit convolution; weights are int16 panels [16 outputs, pair "
     "of (ty, tx, channel), (output, value of the pair)], channels an even number."},
    {"depthwise", depthwise, METH_VARARGS,
     "depthwise" ARGUMENTS "Rows of an 8-bit depthwise convolution; weights are int32 "
     "[16 channels, tap, channel]."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_eight", "8-bit convolutions.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__eight(void)
{
    return PyModule_Create(&module);
}
