/* Inner loops of the simulated NPU: convolutions, depthwise ones, and what the DPU makes of them.
 *
 * Plain buffers in and out; every array's format, shape and contiguity is checked, so that wrong
 * arguments raise ValueError instead of touching memory.  The numpy twins of these loops are in
 * drivers/rocket/tests/test_rocket_units.py and must agree exactly.
 */
#include "cube.h"
#include "post_arguments.h"
#include "product.h"

#define NEAR (1 << 18) /* bytes of the input that stay in the second level cache */

/* One call: some output rows of a task. */
typedef struct {
    Cube in;
    Window w;
    const void *pad, *weights;
    Py_ssize_t lanes; /* accumulators of a pixel */
    const Post *post; /* or */
    int32_t *sums;    /* [pixel][lanes] */
} Work;

/* The padded input of a block of output rows, and the windows in it. */
typedef struct {
    int16_t *image;
    ptrdiff_t *pixels; /* where the window of each pixel starts */
    ptrdiff_t *taps;
    Py_ssize_t rows; /* of the output in a block */
    Taps windows;
} Block;

static void
free_block(Block *block)
{
    PyMem_RawFree(block->image);
    PyMem_RawFree(block->pixels);
    PyMem_RawFree(block->taps);
}

/* A block of `step` channels; -1 without memory for it. */
static int
make_block(Block *block, const Window *w, Py_ssize_t step)
{
    const Py_ssize_t line = reach_x(w) * step * (Py_ssize_t)sizeof(int16_t), one = reach_y(w, 1);
    block->rows = line < NEAR / one ? (NEAR / line - one) / w->stride_y + 1 : 1;
    if (block->rows > w->rows)
        block->rows = w->rows > 0 ? w->rows : 1;
    const int merged = w->dilation_x == 1;
    block->windows.depth = merged ? w->kernel_w * step : step;
    block->windows.count = merged ? w->kernel_h : (ptrdiff_t)w->kernel_h * w->kernel_w;
    const Py_ssize_t pixels = block->rows * w->width;
    if (line > PY_SSIZE_T_MAX / reach_y(w, block->rows))
        return -1;
    const Py_ssize_t bytes = line * reach_y(w, block->rows);
    block->image = PyMem_RawMalloc((size_t)bytes);
    block->pixels = PyMem_RawMalloc((size_t)pixels * sizeof *block->pixels);
    block->taps = PyMem_RawMalloc((size_t)block->windows.count * sizeof *block->taps);
    if (!block->image || !block->pixels || !block->taps)
        return -1;
    for (Py_ssize_t p = 0; p < pixels; p++)
        block->pixels[p] =
            (p / w->width * w->stride_y * reach_x(w) + p % w->width * w->stride_x) * step;
    for (ptrdiff_t t = 0; t < block->windows.count; t++) {
        const ptrdiff_t y = merged ? t : t / w->kernel_w, x = merged ? 0 : t % w->kernel_w;
        block->taps[t] = (y * w->dilation_y * reach_x(w) + x * w->dilation_x) * step;
    }
    block->windows.taps = block->taps;
    return 0;
}

/* One padded row of a cube's channels, widened. */
INLINE void
wide_row(const Cube *in, const Window *w, Py_ssize_t y, const int16_t *pad, int16_t *to)
{
    const Py_ssize_t channels = in->surfaces * ATOM;
    const Span s = span_of(in, w, y);
    for (Py_ssize_t x = 0; x < s.left; x++, to += channels)
        memcpy(to, pad, (size_t)channels * sizeof *to);
    const char *row = in->data + y * in->row;
    for (Py_ssize_t x = 0; x < s.inside; x++) {
        const char *from = row + x * ATOM;
        for (Py_ssize_t u = 0; u < in->surfaces; u++, from += in->surface, to += ATOM) {
            const int8_t *atom = (const int8_t *)from;
            for (int k = 0; k < ATOM; k++)
                to[k] = atom[k];
        }
    }
    for (Py_ssize_t x = 0; x < s.right; x++, to += channels)
        memcpy(to, pad, (size_t)channels * sizeof *to);
}

/* What becomes of the sums of some pixels from pixel `at` of the work on. */
INLINE void
finish(const Work *work, Py_ssize_t u, Py_ssize_t at, int count, int32_t (*sums)[LANES])
{
    if (work->post) {
        post_pixels(work->post, u, work->w.first * work->w.width + at, count, sums);
        return;
    }
    int32_t *to = work->sums + at * work->lanes + u * LANES;
    for (int r = 0; r < count; r++)
        memcpy(to + r * work->lanes, sums[r], sizeof *sums);
}

INLINE Py_ssize_t
surfaces_of(const Work *work)
{
    return work->post ? work->post->out.surfaces : work->lanes / LANES;
}

FAST static void
run_convolve(const Work *work, const Block *block, Product product)
{
    const Window *w = &work->w;
    const Py_ssize_t line = reach_x(w) * work->in.surfaces * ATOM, wanted = surfaces_of(work);
    const ptrdiff_t panel = block->windows.count * block->windows.depth * LANES;
    int16_t *image = block->image;
    for (Py_ssize_t first = 0; first < w->rows; first += block->rows) {
        const Py_ssize_t rows = w->rows - first < block->rows ? w->rows - first : block->rows;
        const Py_ssize_t top = (w->first + first) * w->stride_y - w->pad_top;
        for (Py_ssize_t y = 0; y < reach_y(w, rows); y++)
            wide_row(&work->in, w, top + y, work->pad, image + y * line);
        for (Py_ssize_t u = 0; u < wanted; u++)
            for (Py_ssize_t p = 0; p < rows * w->width; p += TILE) {
                const Py_ssize_t left = rows * w->width - p;
                const int count = left < TILE ? (int)left : TILE;
                const int16_t *pixels[TILE];
                int32_t sums[TILE][LANES];
                for (int r = 0; r < count; r++)
                    pixels[r] = image + block->pixels[p + r];
                product(pixels, count, &block->windows, (const int16_t *)work->weights + u * panel,
                        sums);
                finish(work, u, first * w->width + p, count, sums);
            }
    }
}

typedef int16_t Shorts __attribute__((vector_size(ATOM)));
typedef int32_t Ints __attribute__((vector_size(2 * ATOM)));

INLINE void
multiply_half(const int16_t *x, const int32_t *weights, Ints *sums)
{
    Shorts shorts;
    Ints factors;
    memcpy(&shorts, x, sizeof shorts);
    memcpy(&factors, weights, sizeof factors);
    *sums += __builtin_convertvector(shorts, Ints) * factors;
}

/* A window of one surface; weights are [tap][16]. */
INLINE void
depthwise_atom(const int16_t *window, const Taps *taps, const int32_t *weights, int32_t *out)
{
    Ints low = {0}, high = {0};
    for (ptrdiff_t t = 0; t < taps->count; t++)
        for (const int16_t *x = window + taps->taps[t], *end = x + taps->depth; x < end;
             x += ATOM, weights += ATOM) {
            multiply_half(x, weights, &low);
            multiply_half(x + ATOM / 2, weights + ATOM / 2, &high);
        }
    memcpy(out, &low, sizeof low);
    memcpy(out + ATOM / 2, &high, sizeof high);
}

FAST static void
run_depthwise(const Work *work, const Block *block, Product unused)
{
    (void)unused;
    const Window *w = &work->w;
    const Py_ssize_t line = reach_x(w) * ATOM, wanted = surfaces_of(work);
    const Py_ssize_t taps = (Py_ssize_t)w->kernel_h * w->kernel_w;
    int16_t *image = block->image;
    for (Py_ssize_t u = 0; u < wanted; u++) {
        Cube surface = work->in;
        surface.data += u * surface.surface;
        surface.surfaces = 1;
        for (Py_ssize_t first = 0; first < w->rows; first += block->rows) {
            const Py_ssize_t rows = w->rows - first < block->rows ? w->rows - first : block->rows;
            const Py_ssize_t top = (w->first + first) * w->stride_y - w->pad_top;
            for (Py_ssize_t y = 0; y < reach_y(w, rows); y++)
                wide_row(&surface, w, top + y, (const int16_t *)work->pad + u * ATOM,
                         image + y * line);
            for (Py_ssize_t p = 0; p < rows * w->width; p += TILE) {
                const Py_ssize_t left = rows * w->width - p;
                const int count = left < TILE ? (int)left : TILE;
                int32_t sums[TILE][LANES];
                for (int r = 0; r < count; r++)
                    depthwise_atom(image + block->pixels[p + r], &block->windows,
                                   (const int32_t *)work->weights + u * taps * ATOM, sums[r]);
                finish(work, u, first * w->width + p, count, sums);
            }
        }
    }
}

/* What the two have in common: pad and weights of their types, weights [panels][...][lanes]. */
typedef struct {
    const char *name, *weights; /* the format */
    int depthwise;
    void (*run)(const Work *, const Block *, Product);
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
    made = make_block(&block, &work->w, kind->depthwise ? ATOM : work->in.surfaces * ATOM);
    if (made == 0)
        kind->run(work, &block, best_product());
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
    if (get_post(post_object, out_object, &work->w, work->lanes, &post) == 0) {
        work->post = &post;
        result = run(kind, work);
        release_post(&post);
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
    "stages, channels) and out the whole output, int8 [u, y, x, 16]."

static PyMethodDef methods[] = {
    {"convolve", convolve, METH_VARARGS,
     "convolve" ARGUMENTS "Sums of int8 features [u, y, x, 16] times int16 panels [16 kernels, pair "
     "of (ty, tx, channel), (kernel, value of the pair)].\n" RESULT},
    {"depthwise", depthwise, METH_VARARGS,
     "depthwise" ARGUMENTS "Sums of int8 features [u, y, x, 16] times int32 weights [u, tap, 16].\n"
     RESULT},
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
