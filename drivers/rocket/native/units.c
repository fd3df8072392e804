/* Inner loops of the simulated NPU: convolutions, depthwise ones, and what the DPU makes of them.
 *
 * Plain buffers in and out; every array's format, shape and contiguity is checked, so that wrong
 * arguments raise ValueError instead of touching memory.  The numpy twins of these loops are in
 * drivers/rocket/tests/test_rocket_units.py and must agree exactly.
 */
#include "cube.h"
#include "passes.h"
#include "post_arguments.h"
#include "windows.h"

/* One call: some output rows of a task. */
typedef struct {
    Cube in;
    Window w;
    const int16_t *pad;
    const void *weights;
    Py_ssize_t lanes; /* accumulators of a pixel */
    const Post *post; /* or */
    int32_t *sums;    /* [pixel][lanes] */
} Work;

/* One padded row of all channels, widened. */
INLINE void
fill(const void *of, Py_ssize_t y, int16_t *to)
{
    const Work *work = of;
    const Cube *in = &work->in;
    const Py_ssize_t channels = in->surfaces * ATOM;
    const Span s = span_of(&work->w, y, in->rows, in->cols);
    for (Py_ssize_t x = 0; x < s.left; x++, to += channels)
        memcpy(to, work->pad, (size_t)channels * sizeof *to);
    const char *row = in->data + (s.inside ? y * in->row : 0); /* y may lie far outside */
    for (Py_ssize_t x = 0; x < s.inside; x++) {
        const char *from = row + x * ATOM;
        for (Py_ssize_t u = 0; u < in->surfaces; u++, from += in->surface, to += ATOM) {
            const int8_t *atom = (const int8_t *)from;
            for (int k = 0; k < ATOM; k++)
                to[k] = atom[k];
        }
    }
    for (Py_ssize_t x = 0; x < s.right; x++, to += channels)
        memcpy(to, work->pad, (size_t)channels * sizeof *to);
}

INLINE void
finish(const void *of, Py_ssize_t u, Py_ssize_t at, int count, int32_t (*sums)[LANES])
{
    const Work *work = of;
    if (work->post) {
        post_pixels(work->post, u, work->w.first * work->w.width + at, count, sums);
        return;
    }
    int32_t *to = work->sums + at * work->lanes + u * LANES;
    for (int r = 0; r < count; r++)
        memcpy(to + r * work->lanes, sums[r], sizeof *sums);
}

FAST static void
run_convolve(const Work *work, const Block *block)
{
    const Py_ssize_t panels = work->post ? work->post->out.surfaces : work->lanes / LANES;
    run_blocks(&work->w, block, panels, work->weights, convolve_tile, fill, finish, work);
}

FAST static void
run_depthwise(const Work *work, const Block *block)
{
    const Py_ssize_t panels = work->post ? work->post->out.surfaces : work->lanes / LANES;
    run_blocks(&work->w, block, panels, work->weights, depthwise_tile, fill, finish, work);
}

/* What the two have in common: pad and weights of their types, weights [panels][...][lanes]. */
typedef struct {
    const char *name, *weights; /* the format */
    int depthwise;
    void (*run)(const Work *, const Block *);
} Kind;

static int
get_sums(PyObject *object, Py_buffer *view, Work *work)
{
    if (get(object, view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE, "i", 2, "out") < 0)
        return -1;
    work->sums = view->buf;
    if (view->shape[0] == work->w.rows * work->w.width && view->shape[1] == work->lanes)
        return 0;
    PyErr_SetString(PyExc_ValueError, "out: shape does not match the window and the weights");
    PyBuffer_Release(view);
    return -1;
}

static int
check_shapes(const Kind *kind, const Work *work, const Py_buffer *pad, const Py_buffer *weights)
{
    const Py_ssize_t channels = work->in.surfaces * ATOM;
    const Py_ssize_t taps = (Py_ssize_t)work->w.kernel_h * work->w.kernel_w;
    const Py_ssize_t inside = kind->depthwise ? taps : taps * (channels / 2);
    if (work->in.surfaces >= 1 && work->in.surfaces <= MOST && taps <= MOST &&
        pad->shape[0] == channels && weights->shape[1] == inside &&
        weights->shape[2] == (kind->depthwise ? ATOM : 2 * LANES) &&
        (!kind->depthwise || weights->shape[0] == work->in.surfaces))
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: shapes of features, pad and weights do not match",
                 kind->name);
    return -1;
}

static PyObject *
run(const Kind *kind, Work *work)
{
    Block block = {0};
    int made;
    Py_BEGIN_ALLOW_THREADS
    made = make_block(&block, &work->w, work->in.surfaces * ATOM, !kind->depthwise);
    if (made == 0)
        kind->run(work, &block);
    free_block(&block);
    Py_END_ALLOW_THREADS
    return made == 0 ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

/* Sums of a checked window: into `out` as they are, or through the DPU where `post` is no None. */
static PyObject *
run_with_outputs(const Kind *kind, Work *work, PyObject *post_object, PyObject *out_object)
{
    PyObject *result = NULL;
    if (post_object == Py_None) {
        Py_buffer out;
        if (get_sums(out_object, &out, work) == 0) {
            result = run(kind, work);
            PyBuffer_Release(&out);
        }
        return result;
    }
    Post post;
    double worst = 0;
    if (get_post(post_object, out_object, &work->w, work->lanes, &post) == 0) {
        post.worst = &worst;
        work->post = &post;
        result = run(kind, work);
        release_post(&post);
    }
    if (result && worst > REACH) {
        Py_CLEAR(result);
        PyErr_Format(PyExc_OverflowError, "%lld", (long long)worst);
    }
    return result;
}

static PyObject *
call(const Kind *kind, PyObject *args)
{
    PyObject *in_object, *pad_object, *weights_object, *post_object, *out_object, *result = NULL;
    Work work = {0};
    Window *w = &work.w;
    Py_buffer in = {0}, pad = {0}, weights = {0};
    if (!PyArg_ParseTuple(args, "OOO(ii)(ii)(ii)(ii)(nnn)OO", &in_object, &pad_object,
                          &weights_object, &w->kernel_h, &w->kernel_w, &w->stride_y, &w->stride_x,
                          &w->dilation_y, &w->dilation_x, &w->pad_top, &w->pad_left, &w->first,
                          &w->rows, &w->width, &post_object, &out_object) ||
        check_window(w) < 0)
        return NULL;
    if (get_cube(in_object, &in, 0, &work.in, "features") == 0 &&
        get(pad_object, &pad, PyBUF_C_CONTIGUOUS, "h", 1, "pad") == 0 &&
        get(weights_object, &weights, PyBUF_C_CONTIGUOUS, kind->weights, 3, "weights") == 0 &&
        check_shapes(kind, &work, &pad, &weights) == 0) {
        work.pad = pad.buf;
        work.weights = weights.buf;
        work.lanes = weights.shape[0] * LANES;
        result = run_with_outputs(kind, &work, post_object, out_object);
    }
    PyBuffer_Release(&in);
    PyBuffer_Release(&pad);
    PyBuffer_Release(&weights);
    return result;
}

static PyObject *
convolve(PyObject *self, PyObject *args)
{
    static const Kind kind = {"convolve", "h", 0, run_convolve};
    (void)self;
    return call(&kind, args);
}

static PyObject *
depthwise(PyObject *self, PyObject *args)
{
    static const Kind kind = {"depthwise", "i", 1, run_depthwise};
    (void)self;
    return call(&kind, args);
}

#define ARGUMENTS                                                                                  \
    "(features, pad, weights, kernel, stride, dilation, pads, (first_row, rows, width), post, "    \
    "out)\n"
#define RESULT                                                                                     \
    "Without `post` out is int32 [pixel, lane]; else post is (bias, factors, operand, table, "    \
    "stages, channels, rich) and out the whole output, int8 [u, y, x, 16]. With `rich`, " \
    "OverflowError where a value between the stages leaves 32 bits."

static PyMethodDef methods[] = {
    {"convolve", convolve, METH_VARARGS,
     "convolve" ARGUMENTS "Sums of int8 features [u, y, x, 16] times int16 panels [16 kernels, pair "
     "of (ty, tx, channel), (kernel, value of the pair)].\n" RESULT},
    {"depthwise", depthwise, METH_VARARGS,
     "depthwise" ARGUMENTS "Sums of int8 features [u, y, x, 16] times int32 weights [u, tap, 16].\n"
     RESULT},
    {"remap", remap, METH_VARARGS,
     "remap(features, operand, results, out)\nWrite int8 [u, y, x, 16] of any strides: a copy, or "
     "with int8 results [channels or 1, 256] what they say of a byte; with an operand, results are "
     "[channels or 1, 65536] and its byte counts 256. Bytes count from -128 on."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_units", "Inner loops of the simulated NPU.", 0, methods,
    NULL,                  NULL,     NULL,                                NULL,
};

PyMODINIT_FUNC
PyInit__units(void)
{
    return PyModule_Create(&module);
}
